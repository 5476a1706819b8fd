// A region of the photograph, painted with a brush: white where the style is to be.

const SIDE = 1024;

export class Brush {
  constructor() {
    for (const name of ["canvas", "size", "erase", "clear", "fill", "none", "cancel", "save"])
      this[name] = document.getElementById(`brush-${name}`);
    this.dialog = document.getElementById("brush");
    this.title = document.getElementById("brush-title");
    this.mask = document.createElement("canvas");
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.stroke(this.last);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.cursor = this.at(event);
      if (this.last) for (const one of event.getCoalescedEvents?.() ?? [event]) this.stroke(this.at(one));
      else this.draw();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("keyup", (event) => event.key === " " && (this.last = null));
    this.size.addEventListener("input", () => this.draw());
    this.clear.addEventListener("click", () => this.all("#000"));
    this.fill.addEventListener("click", () => this.invert());
    this.none.addEventListener("click", () => this.done("none"));
    this.cancel.addEventListener("click", () => this.done(null));
    this.save.addEventListener("click", () => this.finish());
    document.getElementById("brush-form").addEventListener("submit", (event) => event.preventDefault());
    this.dialog.addEventListener("cancel", () => this.done(null));
  }

  // A promise of a PNG, "none" for everywhere, or null for no change.
  async ask(photo, earlier, name) {
    const images = await Promise.all([photo, earlier].filter(Boolean).map(load));
    const factor = Math.min(1, SIDE / Math.max(images[0].naturalWidth, images[0].naturalHeight));
    for (const one of [this.canvas, this.mask]) {
      one.width = Math.round(images[0].naturalWidth * factor);
      one.height = Math.round(images[0].naturalHeight * factor);
    }
    this.photo = images[0];
    this.cursor = [this.canvas.width / 2, this.canvas.height / 2];
    this.last = null;
    this.title.textContent = `Where is ${name}?`;
    this.all("#000");
    if (images[1]) this.mask.getContext("2d").drawImage(images[1], 0, 0, this.mask.width, this.mask.height);
    this.draw();
    this.dialog.showModal();
    this.canvas.focus();
    return new Promise((resolve) => (this.resolve = resolve));
  }

  done(value) {
    this.dialog.close();
    this.resolve?.(value);
    this.resolve = null;
  }

  finish() {
    const { data } = this.mask.getContext("2d").getImageData(0, 0, this.mask.width, this.mask.height);
    const painted = data.some((value, n) => n % 4 === 0 && value > 0);
    if (painted) this.mask.toBlob((blob) => this.done(blob), "image/png");
    else this.done("none");
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * this.canvas.width) / box.width, ((event.clientY - box.top) * this.canvas.height) / box.height];
  }

  get radius() {
    return (this.size.value / 100) * Math.max(this.canvas.width, this.canvas.height);
  }

  stroke(to) {
    const at = this.mask.getContext("2d");
    at.strokeStyle = this.erase.checked ? "#000" : "#fff";
    at.lineWidth = this.radius;
    at.lineCap = at.lineJoin = "round";
    at.beginPath();
    at.moveTo(...(this.last ?? to));
    at.lineTo(to[0] + 0.01, to[1]);
    at.stroke();
    this.last = to;
    this.draw();
  }

  all(colour) {
    const at = this.mask.getContext("2d", { willReadFrequently: true });
    at.fillStyle = colour;
    at.fillRect(0, 0, this.mask.width, this.mask.height);
    this.draw();
  }

  invert() {
    const at = this.mask.getContext("2d");
    at.globalCompositeOperation = "difference";
    at.fillStyle = "#fff";
    at.fillRect(0, 0, this.mask.width, this.mask.height);
    at.globalCompositeOperation = "source-over";
    this.draw();
  }

  key(event) {
    const step = Math.max(4, this.radius / 3);
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (by) {
      const sides = [this.canvas.width, this.canvas.height];
      this.cursor = this.cursor.map((value, n) => Math.min(sides[n], Math.max(0, value + step * by[n])));
      if (this.last) this.stroke(this.cursor);
      else this.draw();
    } else if (event.key === " ") this.stroke(this.cursor);
    else return;
    event.preventDefault();
  }

  draw() {
    if (!this.photo) return;
    const { canvas } = this, { width, height } = canvas;
    const at = canvas.getContext("2d");
    at.drawImage(this.photo, 0, 0, width, height);
    // dark where it is not: the photograph times half of the mask and a half
    at.globalAlpha = 0.65;
    at.globalCompositeOperation = "multiply";
    at.drawImage(this.mask, 0, 0);
    at.globalAlpha = 1;
    at.globalCompositeOperation = "source-over";
    at.beginPath();
    at.arc(...this.cursor, this.radius / 2, 0, 7);
    at.lineWidth = 3;
    at.strokeStyle = "#000";
    at.stroke();
    at.lineWidth = 1.5;
    at.strokeStyle = "#fff";
    at.stroke();
  }
}

async function load(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}
