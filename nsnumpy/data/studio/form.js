// What to paint: the photograph, the paintings with their shares and regions, and the settings.

import { bring, Failure, picture, post } from "./api.js";
import { Brush } from "./brush.js";

const $ = (id) => document.getElementById(id);
const SIZES = [[256, "256, a sketch"], [384, "384"], [512, "512"], [768, "768"], [1024, "1024"], [1536, "1536"], [2048, "2048"], [null, "its own"]];
const OWN_FIELDS = new Set(["size", "style_size", "beta", "tv", "colors", "init", "seed"]); // have a control above
const EXPERT = ["network", "iterations", "until", "scales", "convention", "alpha", "content_layers", "style_layers", "style_statistics",
  "optimizer", "lr", "momentum", "bounds", "border", "color_match", "outside"];

export class Form {
  constructor(start, changed, say) {
    Object.assign(this, { start, changed, say });
    this.pictures = start.pictures;
    this.photo = start.begin.photo ?? this.pictures[0].id;
    this.styles = (start.begin.styles ?? []).map((id) => ({ picture: id, weight: 50, mask: null }));
    if (!this.styles.length) {
      const other = this.pictures.find((p) => p.id === "sample:starry") ?? this.pictures[1];
      this.styles = [{ picture: other.id, weight: 50, mask: null }];
    }
    this.begin = null;
    this.brush = new Brush();
    for (const [value, text] of SIZES) $("size").add(new Option(text, value === null ? "own" : value));
    $("size").value = "512";
    this.fields();
    for (const id of ["strength", "strokes", "smooth"]) $(id).addEventListener("input", () => this.sliders());
    for (const one of document.querySelectorAll("#panel select, #panel input:not([type=file])"))
      one.addEventListener("change", () => this.touched());
    this.sliders();
    this.draw();
    this.dropping();
  }

  touched() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.plan(), 250);
    this.changed();
  }

  // The bundled pictures and those that were brought.

  draw() {
    this.thumbs($("photos"), "Add a photograph", (id) => id === this.photo, (id) => {
      this.photo = id;
      for (const style of this.styles) style.mask = null; // which were of the other photograph
    });
    this.thumbs($("paintings"), "Add a painting", (id) => this.styles.some((s) => s.picture === id), (id) => {
      const there = this.styles.find((s) => s.picture === id);
      if (there && this.styles.length > 1) this.styles = this.styles.filter((s) => s !== there);
      else if (!there) this.styles = [...this.styles, { picture: id, weight: 50, mask: null }].slice(-8);
    });
    this.mix();
    this.touched();
  }

  thumbs(box, label, chosen, choose) {
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const buttons = this.pictures.filter((p) => !p.mask).map((p) => {
      const button = element("button", { type: "button", className: "thumb", title: p.name });
      button.dataset.id = p.id;
      button.setAttribute("aria-pressed", String(chosen(p.id)));
      button.setAttribute("aria-label", p.name);
      button.append(element("img", { src: picture(p.id, true), alt: "", loading: "lazy" }));
      button.addEventListener("click", () => {
        choose(p.id);
        this.begin = null;
        this.draw();
      });
      return button;
    });
    const add = element("label", { className: "add" });
    const file = element("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff", multiple: true });
    file.setAttribute("aria-label", label);
    file.addEventListener("change", () => this.add([...file.files], choose));
    add.append(element("b", { textContent: "+", ariaHidden: "true" }), element("span", { textContent: "Add", ariaHidden: "true" }), file);
    box.replaceChildren(...buttons, add);
    if (focused) box.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  async add(files, choose) {
    for (const file of files) {
      try {
        if (file.size > this.start.most.bytes) throw new Failure(`${file.name}: larger than ${this.start.most.bytes >> 20} MB; scale it down first`);
        this.say(`${file.name} is being read\u2026`);
        const known = await bring(file, file.name);
        if (!this.pictures.some((p) => p.id === known.id)) this.pictures.push(known);
        choose(known.id);
        this.begin = null;
        this.say("");
      } catch (error) {
        this.say(error.message, true);
      }
    }
    this.draw();
  }

  dropping() {
    const drop = $("drop");
    let depth = 0;
    const files = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => files(event) && ((drop.hidden = false), depth++));
    addEventListener("dragleave", (event) => files(event) && --depth <= 0 && ((drop.hidden = true), (depth = 0)));
    addEventListener("dragover", (event) => files(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      drop.hidden = true;
      depth = 0;
      const painting = event.target.closest?.("fieldset")?.contains($("paintings"));
      this.add([...event.dataTransfer.files], (id) => {
        if (painting) this.styles.push({ picture: id, weight: 50, mask: null });
        else this.photo = id;
      });
    });
  }

  // The shares of several paintings, and where each of them is.

  mix() {
    const several = this.styles.length > 1;
    const rows = this.styles.map((style, n) => {
      const name = this.name(style.picture);
      const row = element("div", {});
      row.append(element("img", { src: picture(style.picture, true), alt: "" }));
      if (several) {
        const share = element("input", { type: "range", min: 5, max: 100, step: 5, value: style.weight });
        share.setAttribute("aria-label", `Share of ${name}`);
        share.addEventListener("input", () => (style.weight = Number(share.value)));
        share.addEventListener("change", () => this.touched());
        row.append(share);
      } else row.append(element("span", { className: "name", textContent: name }));
      const where = element("button", { type: "button", textContent: style.mask ? "A part" : "Everywhere" });
      where.setAttribute("aria-label", `Where ${name} is: ${style.mask ? "in a part" : "everywhere"}`);
      where.addEventListener("click", () => this.region(style, name, n));
      row.append(where);
      return row;
    });
    $("mix").replaceChildren(...rows);
  }

  // Those of one region, or of none, add up to 1.
  shares() {
    const sum = (mask) => this.styles.filter((s) => s.mask === mask).reduce((sum, s) => sum + s.weight, 0);
    return this.styles.map((style) => style.weight / sum(style.mask));
  }

  async region(style, name, n) {
    const answer = await this.brush.ask(picture(this.photo), style.mask && picture(style.mask), name);
    if (answer === "none") style.mask = null;
    else if (answer) {
      try {
        const mask = await bring(answer, `region-${n + 1}.png`, true);
        if (!this.pictures.some((p) => p.id === mask.id)) this.pictures.push(mask);
        style.mask = mask.id;
      } catch (error) {
        this.say(error.message, true);
      }
    }
    this.mix();
    this.touched();
    $("mix").children[n]?.querySelector("button").focus();
  }

  name(id) {
    return this.pictures.find((p) => p.id === id)?.name.replace(/\.\w+$/, "") ?? "a picture";
  }

  // The settings.

  fields() {
    const known = Object.fromEntries(this.start.settings.map((row) => [row.name, row]));
    known.network = { name: "network", kind: "choice", choices: this.start.networks, default: "builtin", help: "whose features are compared" };
    this.table = EXPERT.filter((name) => known[name]).map((name) => known[name]);
    $("fields").replaceChildren(...this.table.map((row) => {
      const label = element("label", {});
      const shown = row.default === null ? "" : Array.isArray(row.default) ? row.default.join(", ") : String(row.default);
      let control;
      if (row.kind === "choice") {
        control = element("select", {});
        for (const choice of row.choices) control.add(new Option(choice, choice, choice === row.default, choice === row.default));
      } else control = element("input", { type: "text", placeholder: shown || "chosen for you", autocomplete: "off" });
      control.id = `field-${row.name}`;
      label.append(element("code", { textContent: row.name.replaceAll("_", " ") }), control, element("small", { textContent: row.help }));
      return label;
    }));
  }

  sliders() {
    const { beta, tv } = this.weights();
    const at = (id) => Number($(id).value);
    const told = (id, words, more) => {
      const text = at(id) === 0 ? "as usual" : `${words[at(id) > 0 ? 1 : 0]}${more ? ` (${more})` : ""}`;
      $(`${id}-told`).textContent = text;
      $(id).setAttribute("aria-valuetext", text);
    };
    told("strength", ["more photograph", "more painting"], rounded(beta));
    told("strokes", ["finer", "broader"], `\u00d7 ${rounded(2 ** at("strokes"))}`);
    told("smooth", ["rougher", "smoother"], rounded(tv));
    this.changed();
  }

  // beta and tv that the sliders stand for.
  weights() {
    const usual = this.start.weights[$("field-convention")?.value ?? "relative"];
    return { beta: significant(usual.beta * 3 ** Number($("strength").value)), tv: significant(usual.tv * 3 ** Number($("smooth").value)) };
  }

  settings() {
    const settings = {}, size = $("size").value, usual = this.start.weights[$("field-convention").value];
    settings.size = size === "own" ? null : Number(size);
    const { beta, tv } = this.weights();
    if (beta !== usual.beta) settings.beta = beta;
    if (tv !== usual.tv) settings.tv = tv;
    const strokes = Number($("strokes").value), photo = this.pictures.find((p) => p.id === this.photo);
    if (strokes) settings.style_size = Math.round((settings.size ?? Math.max(photo.width, photo.height)) * 2 ** strokes);
    if ($("colors").value !== "painting") settings.colors = $("colors").value;
    if ($("init").value !== "content" && !this.begin) settings.init = $("init").value;
    if (Number($("seed").value)) settings.seed = Number($("seed").value);
    for (const row of this.table) {
      if (row.name === "network") continue;
      const text = $(`field-${row.name}`).value.trim();
      if (!text || text === row.default) continue;
      settings[row.name] = row.kind === "choice" ? text : row.kind === "number" ? numeral(text) : row.kind === "numbers" ? numbers(text) : layers(text);
    }
    return settings;
  }

  ask() {
    const asked = {
      photo: this.photo,
      styles: this.styles.map(({ picture, weight, mask }) => ({ picture, weight: this.styles.length > 1 ? weight : 1, mask })),
      settings: this.settings(),
      network: $("field-network").value,
    };
    return this.begin ? { ...asked, begin: this.begin } : asked;
  }

  // Take what another picture was made with.
  take(ask) {
    this.photo = ask.photo;
    this.styles = ask.styles.map((style) => ({ ...style, weight: ask.styles.length > 1 ? style.weight : 50 }));
    this.begin = ask.begin ?? null;
    const s = ask.settings;
    $("field-network").value = ask.network;
    for (const row of this.table) {
      if (row.name === "network") continue;
      const value = s[row.name];
      $(`field-${row.name}`).value = value === undefined || value === null ? (row.kind === "choice" ? row.default ?? "" : "") : written(value);
    }
    const usual = this.start.weights[$("field-convention").value];
    const size = s.size === null ? "own" : String(s.size ?? 512);
    if (![...$("size").options].some((o) => o.value === size)) $("size").add(new Option(size, size));
    $("size").value = size;
    $("strength").value = s.beta === undefined ? 0 : Math.log(s.beta / usual.beta) / Math.log(3);
    $("smooth").value = s.tv ? Math.log(s.tv / usual.tv) / Math.log(3) : 0;
    $("strokes").value = s.style_size ? Math.log2(s.style_size / (s.size ?? s.style_size)) : 0;
    $("colors").value = s.colors ?? "painting";
    $("init").value = s.init ?? "content";
    $("seed").value = s.seed ?? 0;
    this.sliders();
    this.draw();
  }

  async plan() {
    const asked = (this.asked = JSON.stringify(this.ask()));
    const told = $("plan");
    try {
      const plan = await post("api/plan", JSON.parse(asked));
      if (this.asked !== asked) return;
      const time = plan.seconds < 90 ? `${Math.max(1, Math.round(plan.seconds))} s` : `${Math.round(plan.seconds / 60)} min`;
      const memory = `${(plan.bytes / 1e9).toFixed(1)} GB`;
      const fits = plan.fits ? "" : ` \u2013 more memory than there is; ${plan.largest ? `${plan.largest} pixels would fit` : "no size would fit"}`;
      told.textContent = `${plan.width} \u00d7 ${plan.height} pixels, about ${time}, ${memory}${fits}` + (this.begin ? "; begins with the picture before" : "") +
        (plan.notes.length ? `. Note: ${plan.notes.join("; ")}` : "");
      told.className = plan.fits ? "numbers" : "numbers error";
      $("paint").disabled = !plan.fits;
    } catch (error) {
      if (this.asked !== asked) return;
      told.textContent = error.message;
      told.className = "numbers error";
      $("paint").disabled = true;
    }
  }
}

export function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

const significant = (value) => Number(value.toPrecision(3));
const rounded = (value) => (value >= 100 ? Math.round(value) : Number(value.toPrecision(2)));

// What is no number stays as it is, for the server to say so.
const numeral = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

function numbers(text) {
  const listed = text.split(/[\s,]+/).filter(Boolean).map(numeral);
  return listed.length > 1 ? listed : listed[0];
}

function layers(text) {
  const pairs = text.split(",").map((part) => part.split(":"));
  return Object.fromEntries(pairs.map(([name, weight]) => [name.trim(), weight === undefined ? null : numeral(weight)]));
}

function written(value) {
  if (Array.isArray(value)) return value.join(",");
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, weight]) => (weight === null ? name : `${name}:${weight}`)).join(",");
}
