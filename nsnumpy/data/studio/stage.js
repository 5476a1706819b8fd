// The picture on its mat: before and after with a divider, and zoomed to its pixels.

const STEPS = [0.25, 0.5, 1, 2, 4, 8];

export class Stage {
  constructor() {
    for (const id of ["mat", "view", "after", "before", "line", "split", "empty", "caption", "compare", "fit", "less", "zoom", "more"])
      this[id] = document.getElementById(id);
    this.scale = 0; // 0: it fits
    this.comparing = false;
    this.wanted = "";
    this.compare.addEventListener("click", () => this.setComparing(!this.comparing));
    this.split.addEventListener("input", () => this.place());
    this.fit.addEventListener("click", () => this.setScale(0));
    this.more.addEventListener("click", () => this.step(1));
    this.less.addEventListener("click", () => this.step(-1));
    this.mat.addEventListener("keydown", (event) => {
      if (event.target !== this.mat) return;
      const by = { "+": 1, "=": 1, "-": -1 }[event.key];
      if (by) this.step(by);
      else if (event.key === "0") this.setScale(0);
    });
    new ResizeObserver(() => this.layout()).observe(this.mat);
  }

  // Show a picture once it is decoded; `size` are its own pixels, if it is shown smaller or larger than it is.
  async show(source, { before = "", caption = "", alt = "", size = null } = {}) {
    this.wanted = source;
    const next = new Image();
    next.src = source;
    try {
      await next.decode();
    } catch {
      return false;
    }
    if (this.wanted !== source) return false;
    this.size = size ?? [next.naturalWidth, next.naturalHeight];
    this.after.src = source;
    this.after.alt = alt;
    this.after.hidden = false;
    this.empty.hidden = true;
    this.caption.textContent = caption;
    if (before && this.before.getAttribute("src") !== before) this.before.src = before;
    this.compare.disabled = !before;
    this.withBefore = Boolean(before);
    this.layout();
    this.setComparing(this.comparing);
    return true;
  }

  setComparing(on) {
    this.comparing = on;
    const shown = on && this.withBefore;
    this.compare.setAttribute("aria-pressed", String(Boolean(shown)));
    for (const part of [this.before, this.line, this.split]) part.hidden = !shown;
    this.place();
  }

  place() {
    this.view.style.setProperty("--split", `${this.split.value}%`);
    this.split.setAttribute("aria-valuetext", `${Math.round(this.split.value)} % photograph`);
  }

  fitted() {
    const style = getComputedStyle(this.mat);
    const width = this.mat.clientWidth - 2 * parseFloat(style.paddingLeft);
    const height = this.mat.clientHeight - 2 * parseFloat(style.paddingTop);
    return Math.min(width / this.size[0], height / this.size[1]);
  }

  step(by) {
    if (!this.size) return;
    const now = this.scale || this.fitted();
    const next = by > 0 ? STEPS.find((s) => s > now * 1.01) : STEPS.findLast((s) => s < now * 0.99);
    if (next) this.setScale(next);
  }

  setScale(scale) {
    if (!this.size) return;
    const { mat } = this;
    const middle = [(mat.scrollLeft + mat.clientWidth / 2) / mat.scrollWidth, (mat.scrollTop + mat.clientHeight / 2) / mat.scrollHeight];
    this.scale = scale;
    this.layout();
    mat.scrollLeft = middle[0] * mat.scrollWidth - mat.clientWidth / 2;
    mat.scrollTop = middle[1] * mat.scrollHeight - mat.clientHeight / 2;
  }

  layout() {
    if (!this.size) return;
    this.mat.classList.toggle("zoomed", this.scale > 0);
    const scale = this.scale || this.fitted();
    this.view.style.width = `${Math.max(1, Math.round(this.size[0] * scale))}px`;
    this.view.style.height = `${Math.max(1, Math.round(this.size[1] * scale))}px`;
    this.zoom.textContent = `${Math.round(scale * 100)} %`;
    this.fit.setAttribute("aria-pressed", String(!this.scale));
  }
}
