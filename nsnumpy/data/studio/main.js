// The page: what is watched, what is told to it, and what is kept.

import { follow, get, picture, post, work } from "./api.js";
import { Curve } from "./curve.js";
import { element, Form } from "./form.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const stage = new Stage();
const curve = new Curve($("curve-box"));

let form; // what to paint
let now = null; // what is being painted
let points = [];
let shown = { kind: "photo" }; // on the stage: "photo", "live", "frame" or "work"
let gallery = { works: [], waiting: [], gallery: -1 };
let opened = null; // the work on the stage
let loading = false;

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

async function tried(action, done = "") {
  try {
    await action();
    if (done) say(done);
  } catch (error) {
    say(error.message, true);
  }
}

const seconds = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);
const number = (v) => (v >= 1e4 || v < 1e-2 ? v.toExponential(2) : Number(v.toPrecision(4)).toString());

// What is on the stage

function showPhoto() {
  shown = { kind: "photo" };
  const id = form.photo, known = form.pictures.find((p) => p.id === id);
  stage.show(picture(id), { caption: `${form.name(id)}, ${known.width} \u00d7 ${known.height}`, alt: `The photograph, ${form.name(id)}` });
}

// One live picture at a time is asked for; the newest, once the one before is there.
async function showLive() {
  if (!now?.picture || loading || shown.kind !== "live") return;
  loading = true;
  const { id, picture: version, title, iteration } = now;
  await stage.show(`${work(id, "live")}?v=${version}`, {
    before: picture(photoOf(id)), caption: `${title}, on the way`, alt: `${title}, after ${iteration} iterations`, size: sizeOf(id),
  });
  loading = false;
  if (now && now.id === id && now.picture !== version) showLive();
}

function watch() {
  shown = { kind: "live" };
  opened = null;
  draw();
  curve.show(points);
  showLive();
}

async function openFrame(id, name) {
  const [iteration, size] = name.split("-").map(Number);
  shown = { kind: "frame", id, name };
  draw();
  const title = workOf(id)?.title ?? "";
  await stage.show(`${work(id, "frames")}/${name}`, {
    before: picture(photoOf(id)), caption: `${title}, iteration ${iteration}, ${size} pixels`, alt: `The picture after ${iteration} iterations`, size: sizeOf(id),
  });
}

async function openWork(id, focus = false) {
  await tried(async () => {
    opened = await get(work(id));
    shown = { kind: "work", id };
    draw();
    curve.show(opened.points);
    const { size, title } = opened;
    if (focus) {
      $("work-title").focus({ preventScroll: true });
      document.querySelector(".stage").scrollIntoView({ behavior: "smooth", block: "start" });
    }
    if (hasPicture(opened))
      await stage.show(work(id, "picture"), { before: picture(opened.ask.photo), caption: `${title}, ${size[0]} \u00d7 ${size[1]}`, alt: `${title}, the result` });
  });
}

// What the form says and the picture that is painted does not have.
const turned = () => Object.fromEntries(Object.entries({ ...form.weights(), colors: $("colors").value }).filter(([name, value]) =>
  typeof value === "string" ? value !== now.weights[name] : Math.abs(value - now.weights[name]) > 1e-3 * value));
const workOf = (id) => gallery.works.find((one) => one.id === id);
const photoOf = (id) => workOf(id)?.ask.photo ?? form.photo;
const sizeOf = (id) => workOf(id)?.size ?? null;
const hasPicture = (one) => one.state === "done" || one.state === "kept";

// Everything but the stage

function draw() {
  const running = now !== null;
  $("now").hidden = !running;
  if (running) {
    const { state, iteration, iterations, size, sizes, left, loss } = now;
    $("now-title").textContent = now.title;
    $("watch").hidden = shown.kind === "live";
    $("pause").textContent = state === "paused" ? "Go on" : "Pause";
    $("progress").max = iterations || 1;
    $("progress").value = iteration;
    const scale = sizes.length > 1 ? ` (${sizes.indexOf(size) + 1} of ${sizes.length} sizes)` : "";
    $("told").textContent = size === null ? "Getting ready\u2026" : [
      state === "paused" ? "Paused" : null, `iteration ${iteration} of ${iterations}`, `${size} pixels${scale}`,
      loss === null ? null : `loss ${number(loss)}`, left === null || state === "paused" ? null : `about ${seconds(left)} left`,
    ].filter(Boolean).join(" \u00b7 ");
    $("steer").hidden = !Object.keys(turned()).length;
  }
  drawStrip();
  drawWork();
  const rows = gallery.waiting.map((id) => workOf(id)).filter(Boolean).map((one) => {
    const row = element("li", {});
    const button = element("button", { type: "button", className: "quiet", textContent: "Remove" });
    button.setAttribute("aria-label", `Remove ${one.title}`);
    button.addEventListener("click", () => tried(() => post(work(one.id, "remove"))));
    row.append(element("span", { textContent: one.title }), button);
    return row;
  });
  $("queue").hidden = !rows.length;
  if ($("waiting").dataset.of !== gallery.waiting.join()) {
    $("waiting").dataset.of = gallery.waiting.join();
    $("waiting").replaceChildren(...rows);
  }
}

function drawStrip() {
  const id = shown.kind === "work" || (shown.kind === "frame" && shown.id !== now?.id) ? opened?.id : now?.id;
  const frames = (id === now?.id ? now?.frames : opened?.frames) ?? [];
  $("film").hidden = frames.length < 2 || shown.kind === "photo";
  const key = `${id}:${frames.join()}`;
  const strip = $("strip");
  if (strip.dataset.of !== key) {
    const end = strip.scrollLeft > strip.scrollWidth - strip.clientWidth - 80;
    const there = new Map([...strip.children].map((item) => [item.dataset.key, item]));
    strip.replaceChildren(...frames.map((name) => there.get(`${id}:${name}`) ?? frame(id, name)));
    strip.dataset.of = key;
    if (end) strip.scrollLeft = strip.scrollWidth;
  }
  for (const item of strip.children)
    item.firstChild.setAttribute("aria-pressed", String(shown.kind === "frame" && item.dataset.key === `${shown.id}:${shown.name}`));
  const chosen = shown.kind === "frame" && shown.id === now?.id && now.frames.includes(shown.name);
  $("back-row").hidden = !chosen;
  if (chosen) $("back-told").textContent = `Iteration ${Number(shown.name.split("-")[0])}: drop what came after it?`;
}

function frame(id, name) {
  const item = element("li", {}), iteration = Number(name.split("-")[0]);
  item.dataset.key = `${id}:${name}`;
  const button = element("button", { type: "button" });
  button.setAttribute("aria-label", `Iteration ${iteration}, ${name.split("-")[1]} pixels`);
  button.append(element("img", { src: `${work(id, "frames")}/${name}`, alt: "" }), element("span", { textContent: iteration }));
  button.addEventListener("click", () => openFrame(id, name));
  item.append(button);
  return item;
}

function drawWork() {
  const one = opened;
  $("work").hidden = !one;
  if (!one) return;
  $("work-title").textContent = one.title;
  const changes = one.changes.map((change) => change.back_to === undefined
    ? `${Object.entries(change).filter(([k]) => k !== "iteration").map(([k, v]) => `${k} ${typeof v === "number" ? number(v) : v}`).join(", ")} from iteration ${change.iteration} on`
    : `from iteration ${change.iteration} back to ${change.back_to}`);
  const told = hasPicture(one)
    ? [`${one.size[0]} \u00d7 ${one.size[1]}`, `${one.iteration} iterations in ${seconds(one.seconds)}`, `loss ${number(one.loss)}`, one.why, ...changes]
    : [one.state === "failed" ? `It failed: ${one.why}` : one.state];
  $("work-told").textContent = told.filter(Boolean).join(" \u00b7 ");
  for (const id of ["download", "larger", "copy", "report", "command"]) $(id).hidden = !hasPicture(one);
  $("download").href = `${work(one.id, "picture")}?download=1`;
  $("report").href = work(one.id, "report");
  $("command").textContent = one.command + (changes.length ? "\n# but for what was changed on the way" : one.state === "kept" ? "\n# which goes on to the end" : "");
}

function drawGallery() {
  const ended = gallery.works.filter((one) => hasPicture(one) || one.state === "failed");
  $("gallery").hidden = !ended.length;
  $("works").replaceChildren(...ended.map((one) => {
    const item = element("li", {}), button = element("button", { type: "button" });
    button.dataset.id = one.id;
    if (hasPicture(one)) button.append(element("img", { src: work(one.id, "thumb"), alt: "", loading: "lazy" }));
    else button.append(element("span", { className: "none", textContent: "It failed" }));
    const when = new Date(one.made * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    button.append(element("b", { textContent: one.title }), element("small", { textContent: `${one.size?.join(" \u00d7 ") ?? ""} \u00b7 ${when}` }));
    if (opened?.id === one.id) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => openWork(one.id, true).then(drawGallery));
    item.append(button);
    return item;
  }));
}

// What the server tells

async function heard(event) {
  if ($("status").dataset.lost) {
    delete $("status").dataset.lost;
    say("");
  }
  const before = now;
  now = event.now;
  points = event.from === 0 ? event.points : [...points.slice(0, event.from), ...event.points];
  if (event.gallery !== gallery.gallery) {
    gallery = await get("api/works");
    drawGallery();
  }
  if (now && before?.id !== now.id && (shown.kind !== "work" || before === null) && shown.kind !== "frame") {
    shown = { kind: "live" };
    opened = null;
  }
  if (before && (!now || now.id !== before.id)) {
    const ended = workOf(before.id);
    if (ended) say(ended.state === "failed" ? `${ended.title}: ${ended.why}` : ended.state === "waiting" ? "" : `${ended.title} is done.`, ended.state === "failed");
    if (!now && (shown.kind === "live" || (shown.kind === "frame" && shown.id === before.id)) && ended) await openWork(before.id);
  }
  document.title = now ? `${Math.floor((100 * now.iteration) / (now.iterations || 1))} % \u00b7 Studio` : "Studio";
  draw();
  if (shown.kind === "live" || (shown.kind === "frame" && shown.id === now?.id)) curve.show(points);
  showLive();
}

function lost() {
  $("status").dataset.lost = "1";
  say("The studio does not answer. If it was started anew, open the address that it prints.", true);
}

// What one does

function listen() {
  $("panel").addEventListener("submit", (event) => {
    event.preventDefault();
    tried(async () => {
      await post("api/paint", form.ask());
      if (now) return say("It waits for its turn.");
      shown = { kind: "live" };
      opened = null;
      say("");
      draw();
      if (matchMedia("(max-width: 60rem)").matches) document.querySelector(".stage").scrollIntoView({ behavior: "smooth" });
    });
  });
  $("pause").addEventListener("click", () => tried(() => post(work(now.id, now.state === "paused" ? "go" : "pause"))));
  $("stop").addEventListener("click", () => tried(() => post(work(now.id, "stop"))));
  $("watch").addEventListener("click", watch);
  $("change").addEventListener("click", () => tried(() => post(work(now.id, "change"), { changes: turned() }), "From here on it is painted so."));
  $("back").addEventListener("click", () => tried(async () => {
    await post(work(now.id, "back"), { frame: shown.name });
    watch();
  }, "It goes on from there."));
  $("again").addEventListener("click", () => {
    form.take(opened.ask);
    say("The settings are those of this picture.");
  });
  $("larger").addEventListener("click", () => {
    const side = Math.round((Math.max(...opened.size) * 3) / 2 / 16) * 16;
    const { scales, iterations, init, style_size, ...settings } = opened.ask.settings;
    form.take({ ...opened.ask, settings: { ...settings, size: side, iterations: 60 }, begin: opened.id });
    say(`Set to ${side} pixels, to begin with this picture: press Paint.`);
    $("paint").focus();
  });
  $("copy").addEventListener("click", () => tried(() => navigator.clipboard.writeText(opened.command), "Copied."));
  $("remove").addEventListener("click", () => {
    if (!confirm(`Remove ${opened.title} from the gallery and from the disk?`)) return;
    tried(async () => {
      await post(work(opened.id, "remove"));
      opened = null;
      if (now) watch();
      else {
        curve.show([]);
        showPhoto();
        draw();
      }
    });
  });
  $("report").addEventListener("click", async (event) => {
    event.preventDefault();
    tried(async () => {
      say("The report is being written\u2026");
      const answer = await fetch(work(opened.id, "report"));
      if (!answer.ok) throw new Error((await answer.json()).error);
      const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "report.html";
      const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }, "The report is in your downloads.");
  });
  const themes = ["auto", "light", "dark"];
  const theme = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    $("theme").textContent = `Theme: ${name}`;
    localStorage.setItem("theme", name);
    curve.draw();
  };
  $("theme").addEventListener("click", () => theme(themes[(themes.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % 3]));
  theme(themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
}

async function begin() {
  try {
    form = new Form(await get("api/start"), () => {
      if (!form) return;
      draw();
      if (shown.kind === "photo" && shown.id !== form.photo) showPhoto();
    }, say);
  } catch (error) {
    say(error.message, true);
    return;
  }
  listen();
  showPhoto();
  follow(heard, lost);
}

begin();
