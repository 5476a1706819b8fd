// The loss and its terms over the iterations, logarithmic, on a canvas.

const TERMS = [[5, "tv"], [3, "content"], [4, "style"], [2, "total"]];

export class Curve {
  constructor(box) {
    this.box = box;
    this.canvas = box.querySelector("canvas");
    this.points = [];
    this.due = 0;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(points) {
    this.points = points;
    this.box.hidden = points.length < 2;
    if (!this.due) this.due = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.due = 0;
    const { canvas, points } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (points.length < 2 || !width) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const at = canvas.getContext("2d");
    at.scale(ratio, ratio);
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.72;
    const left = size * 4, right = size, top = size * 0.8, bottom = size * 1.9;
    const values = points.flatMap((p) => [p[2], p[3], p[4], p[5]]).filter((v) => v > 0);
    const high = Math.max(...points.map((p) => p[2])), low = Math.max(Math.min(...values), high / 1e4);
    const first = Math.log10(low * 0.9), span = Math.log10(high * 1.1) - first || 1;
    const y = (v) => top + (height - top - bottom) * (1 - (Math.log10(Math.max(v, low * 0.9)) - first) / span);
    const x = (n) => left + ((width - left - right) * n) / (points.length - 1);
    const ink = getComputedStyle(canvas).color;
    at.font = `${size}px system-ui, sans-serif`;
    at.textBaseline = "middle";
    at.lineWidth = 1;
    const decades = [];
    for (let e = Math.floor(first); e <= first + span; e++)
      for (const m of span > 1.5 ? [1] : [1, 2, 5]) {
        const v = m * 10 ** e;
        if (Math.log10(v) >= first && Math.log10(v) <= first + span) decades.push(v);
      }
    for (const v of decades) {
      at.globalAlpha = 0.15;
      at.strokeStyle = ink;
      line(at, left, y(v), width - right, y(v));
      at.globalAlpha = 0.75;
      at.fillStyle = ink;
      at.textAlign = "right";
      at.fillText(v >= 1e4 || v < 1e-2 ? v.toExponential(0) : `${+v.toPrecision(2)}`, left - size * 0.6, y(v));
    }
    at.textAlign = "left";
    for (let n = 0; n < points.length; n++)
      if (!n || points[n][1] !== points[n - 1][1]) {
        at.globalAlpha = 0.35;
        if (n) line(at, x(n), top, x(n), height - bottom);
        at.globalAlpha = 0.75;
        at.fillText(`${points[n][1]} px`, x(n) + (n ? 4 : 0), height - bottom / 2);
      }
    at.globalAlpha = 1;
    at.lineJoin = "round";
    const every = Math.max(1, Math.floor(points.length / (2 * width)));
    for (const [column, name] of TERMS) {
      at.strokeStyle = getComputedStyle(this.box.querySelector(`.${name}`)).color;
      at.lineWidth = name === "total" ? 2.2 : 1.6;
      at.beginPath();
      let drawn = false;
      for (let n = 0; n < points.length; n += every) {
        const v = points[n][column];
        if (!(v > 0)) continue;
        at[drawn ? "lineTo" : "moveTo"](x(n), y(v));
        drawn = true;
      }
      at.stroke();
    }
    const last = points[points.length - 1];
    canvas.setAttribute("aria-label",
      `The loss over ${last[0]} iterations: ${points[0][2].toPrecision(3)} at first, ${last[2].toPrecision(3)} now; ` +
      `style ${last[4].toPrecision(3)}, content ${last[3].toPrecision(3)}, smoothness ${last[5].toPrecision(3)}`);
  }
}

function line(at, x0, y0, x1, y1) {
  at.beginPath();
  at.moveTo(x0, y0);
  at.lineTo(x1, y1);
  at.stroke();
}
