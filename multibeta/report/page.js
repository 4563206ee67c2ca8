"use strict";
(() => {
const content = JSON.parse(document.getElementById("content").textContent);
const NS = "http://www.w3.org/2000/svg";
const COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888",
  "#ee8866", "#44bb99", "#997700", "#bb5566", "#004488", "#aaaa00", "#ffaabb", "#77aadd", "#225555",
  "#999933", "#882255", "#661100", "#6699cc"];
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

// What a run shows is a list of functions of the number of its β.
const updates = [];
let betas = [...new Set(content.runs.flatMap(run => run.betas))].sort((a, b) => a - b);
const low = Math.log(betas[0]), high = Math.log(betas[betas.length - 1]);

function make(name, attributes = {}, ...inner) {
  const of = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) of.setAttribute(key, value);
  of.append(...inner);
  return of;
}
function draw(name, attributes = {}, text = "") {
  const of = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) of.setAttribute(key, value);
  if (text !== "") of.textContent = text;
  return of;
}
function card(into, title, ...inner) {
  const sentences = content.sentences[title.split(/[:,] /)[0]] || [];
  const words = sentences.length ? [make("ul", {class: "sentences"}, ...sentences.map(text => make("li", {}, text)))] : [];
  const of = make("section", {class: "card"}, make("h3", {}, title), ...words, ...inner);
  into.append(of);
  return of;
}
function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2).replace("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}
function colour(beta) {
  const at = high > low ? Math.min(1, Math.max(0, (Math.log(beta) - low) / (high - low))) * 4 : 0;
  const i = Math.min(3, Math.floor(at)), f = at - i;
  return "rgb(" + VIRIDIS[i].map((v, c) => Math.round(v + f * (VIRIDIS[i + 1][c] - v))).join(",") + ")";
}
function nearest(run, beta) {
  let best = 0;
  run.betas.forEach((b, k) => {
    if (Math.abs(Math.log(b / beta)) < Math.abs(Math.log(run.betas[best] / beta))) best = k;
  });
  return best;
}
function ticks(from, to, count = 4) {
  const raw = (to - from) / count, power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw) || power;
  const found = [];
  for (let v = Math.ceil(from / step) * step; v <= to + 1e-9 * step; v += step) found.push(Number(v.toPrecision(10)));
  return found;
}

// Axes with lines, the point of now, and what else is to be drawn.
function chart(label, xs, ys, {logX = false, xName, yName, width = 340, height = 230, slopes = null}) {
  const box = {l: 52, r: 10, t: 8, b: 34};
  const tx = v => logX ? Math.log10(v) : v;
  const allX = xs.flat().map(tx), allY = ys.flat();
  const span = v => { const a = Math.min(...v), b = Math.max(...v), pad = (b - a || 1) * .05; return [a - pad, b + pad]; };
  const [x0, x1] = span(allX), [y0, y1] = span(allY);
  const X = v => box.l + (tx(v) - x0) / (x1 - x0) * (width - box.l - box.r);
  const Y = v => height - box.b - (v - y0) / (y1 - y0) * (height - box.t - box.b);
  const svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  const grey = {stroke: "var(--line)", "stroke-width": 1, fill: "none"};
  for (const v of logX ? [-9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6].filter(p => p >= x0 && p <= x1) : ticks(x0, x1)) {
    const at = logX ? X(10 ** v) : X(v);
    svg.append(draw("line", {x1: at, x2: at, y1: box.t, y2: height - box.b, ...grey}));
    svg.append(draw("text", {x: at, y: height - box.b + 13, "text-anchor": "middle"}, short(logX ? 10 ** v : v)));
  }
  for (const v of ticks(y0, y1)) {
    svg.append(draw("line", {x1: box.l, x2: width - box.r, y1: Y(v), y2: Y(v), ...grey}));
    svg.append(draw("text", {x: box.l - 4, y: Y(v) + 4, "text-anchor": "end"}, short(v)));
  }
  svg.append(draw("text", {x: (box.l + width - box.r) / 2, y: height - 4, "text-anchor": "middle"}, xName));
  svg.append(draw("text", {x: -(height - box.b) / 2, y: 11, transform: "rotate(-90)", "text-anchor": "middle"}, yName));
  const marks = xs.map((of, i) => {
    const path = of.map((v, k) => `${k ? "L" : "M"}${X(v).toFixed(1)} ${Y(ys[i][k]).toFixed(1)}`).join("");
    svg.append(draw("path", {d: path, fill: "none", stroke: xs.length > 1 ? COLOURS[i] : "var(--soft)", "stroke-width": 1.5}));
    if (slopes) of.forEach((v, k) => svg.append(draw("circle", {cx: X(v), cy: Y(ys[i][k]), r: 3, fill: colour(slopes[i][k])})));
    const line = draw("line", {stroke: "var(--mark)", "stroke-width": 1.5});
    const point = draw("circle", {r: 6, stroke: "var(--ink)", "stroke-width": 2, class: "now"});
    svg.append(...(slopes ? [line] : []), point);
    return (k, beta) => {
      point.setAttribute("cx", X(of[k]).toFixed(2));
      point.setAttribute("cy", Y(ys[i][k]).toFixed(2));
      point.setAttribute("fill", colour(beta));
      if (!slopes) return;
      const dx = .18 / Math.hypot(1 / (x1 - x0), beta / (y1 - y0));
      line.setAttribute("x1", X(of[k] - dx)); line.setAttribute("x2", X(of[k] + dx));
      line.setAttribute("y1", Y(ys[i][k] + beta * dx)); line.setAttribute("y2", Y(ys[i][k] - beta * dx));
    };
  });
  return [svg, marks];
}

function figure(text, ...inner) { return make("figure", {}, make("figcaption", {}, text), ...inner); }

function pictureOf(examples, what, k, alt) {
  const smooth = Math.min(...examples.size) >= 48;
  const img = make("img", {alt, src: examples[what][k]});
  return [img, smooth];
}

function lines(canvas, rows, span, shape) {
  const columns = rows[0].length, w = 150, h = 90;
  canvas.width = columns * w; canvas.height = rows.length * h;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.body);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  rows.forEach((row, y) => row.forEach((channels, x) => channels.forEach((of, c) => {
    pen.strokeStyle = c ? "#ee8866" : style.getPropertyValue("--mark");
    pen.lineWidth = 1.5;
    pen.beginPath();
    of.forEach((v, i) => {
      const at = [x * w + 4 + i / (of.length - 1) * (w - 8), y * h + h - 4 - (v - span[0]) / (span[1] - span[0] || 1) * (h - 8)];
      i ? pen.lineTo(...at) : pen.moveTo(...at);
    });
    pen.stroke();
  })));
}

function showExamples(into, run) {
  const examples = run.examples;
  if (!examples) return;
  const named = `latents ${examples.moved_latents.join(", ")}, the busiest first, from −3 to 3`;
  const parts = [
    ["Reconstructions", [["x", "examples"], ["again", "the mean of p(x|z) at the mean of q(z|x)"]]],
    ["Samples", [["samples", "from the prior, the same noise at every β"]]],
    ["Traversals", [["moved", named]]],
  ];
  for (const [title, sets] of parts) {
    const of = card(into, title);
    for (const [what, words] of sets) {
      const text = words + examples.note;
      if (examples.kind === "pictures") {
        const [img, smooth] = pictureOf(examples, what, 0, `${title}: ${text}`);
        if (smooth) of.classList.add("smooth");
        img.dataset.what = what;
        of.append(figure(text, img));
        if (what !== "x") updates.push(at => { img.src = examples[what][at(run)]; });
      } else {
        of.classList.add("wide");
        const canvas = make("canvas", {class: "lines", role: "img", "aria-label": `${title}: ${text}`});
        of.append(figure(text, canvas));
        const rows = k => what === "x" ? [examples.x] : what === "moved" ? examples.moved[k] : [examples[what][k]];
        updates.push(at => lines(canvas, rows(at(run)), examples.span));
      }
    }
  }
}

// One progressive file of the examples, read up to a byte; β of the page does not matter to it.
function showFile(into, run) {
  const {examples} = run;
  if (!examples) return;
  const title = "One file, cut anywhere", {file} = examples;
  if (file.lacks) { card(into, title, make("p", {}, `There is none here: ${file.lacks}`)); return; }
  const all = file.lengths[file.lengths.length - 1], number = content.runs.indexOf(run), id = `cut-${number}`;
  const dial = make("input", {type: "range", min: 0, max: file.lengths.length - 1, step: 1, id});
  dial.value = Math.floor(file.lengths.length / 2);
  dial.disabled = file.lengths.length < 2;
  const long = `${all} of ${all}`; // so that the slider stays as it is while it is moved
  const shown = make("output", {for: id, style: `min-width: ${long.length}ch`}), body = make("tbody");
  const rows = [
    ["bits an example", k => short(8 * file.lengths[k] / file.count)],
    ["β that the last bits are for", k => file.lengths[k] > file.header ? short(file.betas[k], 3) : "–"],
    ["PSNR (dB)", k => file.psnrs[k] === null ? "∞" : short(file.psnrs[k])],
  ].slice(0, file.psnrs ? 3 : 2);
  const cells = rows.map(([name]) => {
    const cell = make("td");
    body.append(make("tr", {}, make("td", {}, name), cell));
    return cell;
  });
  const of = card(into, title, make("div", {class: "sliders"}, make("label", {for: id}, "bytes"), dial, shown), make("table", {}, body));
  const text = "read from these bytes alone" + examples.note, pictures = examples.kind === "pictures";
  let show;
  if (pictures) {
    const [img, smooth] = pictureOf(examples, "cut", 0, `${title}: ${text}`);
    const [whole] = pictureOf(examples, "x", 0, `${title}: the examples`);
    if (smooth) of.classList.add("smooth");
    of.append(figure("examples", whole), figure(text, img));
    show = k => { img.src = examples.cut[k]; };
  } else {
    of.classList.add("wide");
    const canvas = make("canvas", {class: "lines", role: "img", "aria-label": `${title}: examples, and what is ${text}`});
    of.append(figure(`examples; below, ${text}`, canvas));
    show = k => lines(canvas, [examples.x, examples.cut[k]], examples.span);
  }
  of.append(make("p", {}, `A file of these ${file.count} examples, in which the most worthy bits are first: each beginning of it is a file. ${file.header} bytes are its header.`));
  const cut = () => {
    const k = Number(dial.value);
    rows.forEach(([, value], i) => { cells[i].textContent = value(k); });
    shown.textContent = `${file.lengths[k]} of ${all}`;
    dial.setAttribute("aria-valuetext", `${shown.textContent}, ${rows.map(([name, value]) => `${name}: ${value(k)}`).join(", ")}`);
    show(k);
  };
  dial.addEventListener("input", cut);
  cut();
}

function showNumbers(into, run) {
  const body = make("tbody"), of = card(into, "Numbers", make("table", {}, body));
  const unit = run.unit === "nats" ? " (nats)" : ` (${run.unit})`;
  const known = new Set(["beta", "rate_nats", "rate_se", run.distortion, run.objective, "neg_elbo_nats", "psnr_db", "active_units"]);
  const rows = [
    ["β", r => short(r.beta)],
    ["rate R (nats)", r => `${short(r.rate_nats)} ± ${short(r.rate_se, 2)}`],
    ["rate R (bits)", r => short(r.rate_nats / Math.LN2)],
    ["bits a value of x", r => short(r.rate_nats / Math.LN2 / run.d, 3)],
    [`distortion D${unit}`, r => `${short(r[run.distortion])} ± ${short(r.distortion_se, 2)}`],
    [`J = D + βR${unit}`, r => short(r[run.objective])],
    ["PSNR (dB)", r => short(r.psnr_db)],
    ["active latents", r => short(r.active_units)],
    ...Object.keys(run.rows[0]).filter(k => !known.has(k) && !/_se$|_bound$/.test(k)).map(k => [k, r => short(r[k])]),
  ].filter(([, text]) => text(run.rows[0]) !== "–");
  const cells = rows.map(([name]) => {
    const cell = make("td");
    body.append(make("tr", {}, make("td", {}, name), cell));
    return cell;
  });
  updates.push(at => rows.forEach(([, text], i) => { cells[i].textContent = text(run.rows[at(run)]); }));
}

function showLatents(into, run) {
  const n = Math.min(run.order.length, 40), width = 340, height = 150;
  const most = Math.max(...run.latentRates.flat(), .5);
  const svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "rate of each latent"});
  const step = (width - 40) / n;
  for (const v of ticks(0, most, 3)) {
    const y = height - 24 - v / most * (height - 34);
    svg.append(draw("line", {x1: 34, x2: width, y1: y, y2: y, stroke: "var(--line)"}));
    svg.append(draw("text", {x: 30, y: y + 4, "text-anchor": "end"}, short(v)));
  }
  const bars = run.order.slice(0, n).map((j, i) => {
    const bar = draw("rect", {x: 36 + i * step, width: Math.max(1, step - 2), y: 0, height: 0});
    svg.append(bar);
    if (n <= 16) svg.append(draw("text", {x: 36 + (i + .5) * step - 1, y: height - 10, "text-anchor": "middle"}, j));
    return [bar, j];
  });
  const text = make("p");
  card(into, "Latents", svg, text);
  updates.push((at, beta) => {
    const rates = run.latentRates[at(run)];
    for (const [bar, j] of bars) {
      const h = rates[j] / most * (height - 34);
      bar.setAttribute("y", height - 24 - h); bar.setAttribute("height", h); bar.setAttribute("fill", colour(beta));
    }
    text.textContent = `nats of each; ${rates.filter(r => r > .2).length} of ${rates.length} have more than 0.2`;
  });
}

// Prior, posterior of one example and aggregated posterior of one latent.
function showOne(into, run) {
  if (!run.one) return;
  const {latents, mean, std, aggregated, span, n} = run.one, width = 640, height = 220, base = height - 34, top = 12;
  const name = content.runs.indexOf(run), X = v => 10 + (v + span) / 2 / span * (width - 20);
  const svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "prior, aggregated posterior and the posterior of one example, of one latent"});
  for (const v of ticks(-span, span, 8)) svg.append(draw("text", {x: X(v), y: base + 14, "text-anchor": "middle"}, short(v)));
  svg.append(draw("line", {x1: X(-span), x2: X(span), y1: base, y2: base, stroke: "var(--line)"}));
  const of_all = draw("path", {fill: "var(--soft)", "fill-opacity": .35, class: "aggregated"});
  const of_one = draw("path", {"fill-opacity": .75, stroke: "var(--ink)", class: "posterior"});
  const prior = draw("path", {fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "5 4", class: "prior"});
  const axis = draw("text", {x: width / 2, y: height - 4, "text-anchor": "middle"});
  svg.append(of_all, of_one, prior, axis);
  const normal = (z, mu, sigma) => Math.exp(-.5 * ((z - mu) / sigma) ** 2), peak = 1 / Math.sqrt(2 * Math.PI);
  const bell = (mu, sigma, h) => Array.from({length: 161}, (_, i) => {
    const z = mu + (i - 80) / 80 * 4 * sigma;
    return `${i ? "L" : "M"}${X(z).toFixed(1)} ${(base - h * normal(z, mu, sigma)).toFixed(1)}`;
  }).join("");
  const id = `latent-${name}`, pick = make("select", {id}, ...latents.map((j, i) => make("option", {value: i}, j)));
  const state = {k: 0, example: 0}, text = make("p", {class: "says"});
  const shown = run.examples && run.examples.kind === "pictures" ? run.examples : null;
  const buttons = mean[0].map((_, i) => {
    const of = make("button", {type: "button", "aria-label": `example ${i + 1}`}, shown ? "" : i + 1);
    if (shown) { // a part of the sheet of all examples
      const w = shown.size[1], gap = Math.max(1, Math.floor(shown.size[0] / 24)), all = shown.columns.x * (w + gap) - gap;
      of.className = "picture";
      of.style.backgroundImage = `url(${shown.x[0]})`;
      of.style.backgroundSize = `${100 * all / w}% 100%`;
      of.style.backgroundPosition = `${all > w ? 100 * i * (w + gap) / (all - w) : 0}% 0`;
    }
    of.addEventListener("click", () => { state.example = i; show(); });
    return of;
  });
  const show = () => {
    const i = Number(pick.value), k = state.k, mu = mean[k][state.example][i], sigma = std[k][state.example][i];
    const steps = aggregated[k][i], scale = (base - top) / Math.max(peak, ...run.one.aggregated.map(of => Math.max(...of[i])));
    const at = b => X(-span + 2 * span * b / steps.length).toFixed(1);
    of_all.setAttribute("d", `M${at(0)} ${base}` + steps.map((v, b) => `V${(base - scale * v).toFixed(1)}H${at(b + 1)}`).join("") + `V${base}Z`);
    prior.setAttribute("d", bell(0, 1, scale * peak));
    of_one.setAttribute("d", bell(mu, sigma, base - top));
    of_one.setAttribute("fill", colour(run.betas[k]));
    axis.textContent = `latent ${latents[i]}`;
    const rate = (mu * mu + sigma * sigma - 1) / 2 - Math.log(sigma);
    text.textContent = `Example ${state.example + 1}: mean ${short(mu, 3)}, standard deviation ${short(sigma, 3)}; its divergence from the prior is ${short(rate, 3)} nats. `
      + `Prior and aggregated posterior (of ${n} examples) have one scale, the posterior one of its own: its width is what counts.`;
    buttons.forEach((of, j) => of.setAttribute("aria-pressed", j === state.example));
  };
  pick.addEventListener("change", show);
  card(into, "One latent of one example", make("div", {class: "pick"}, ...buttons, make("label", {for: id}, "latent"), pick), svg, text).classList.add("wide");
  updates.push(at => { state.k = at(run); show(); });
}

function showScatter(into, run) {
  const {axes, points, labels, label} = run.scatter, width = 340, height = 300;
  const all = points.flat(), most = Math.max(3, ...all.map(p => Math.max(Math.abs(p[0]), Math.abs(p[1]))));
  const svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "codes of examples, two latents"});
  const X = v => 20 + (v + most) / 2 / most * (width - 30), Y = v => height - 20 - (v + most) / 2 / most * (height - 30);
  for (const r of [1, 2]) svg.append(draw("ellipse", {cx: X(0), cy: Y(0), rx: X(r) - X(0), ry: Y(0) - Y(r), fill: "none", stroke: "var(--line)"}));
  svg.append(draw("text", {x: width / 2, y: height - 4, "text-anchor": "middle"}, `latent ${axes[0]}`));
  svg.append(draw("text", {x: -height / 2, y: 11, transform: "rotate(-90)", "text-anchor": "middle"}, `latent ${axes[1]}`));
  const dots = points[0].map((_, i) => {
    const dot = draw("circle", {r: 2.2, fill: labels ? COLOURS[labels.of[i] % COLOURS.length] : "var(--mark)", "fill-opacity": .75});
    svg.append(dot);
    return dot;
  });
  const key = make("div", {class: "key"});
  if (labels) labels.words.forEach((word, i) => {
    const spot = make("i"); spot.style.background = COLOURS[i % COLOURS.length];
    key.append(make("span", {}, spot, word));
  });
  card(into, labels ? `Codes, by ${label}` : "Codes", svg, key, make("p", {}, "Means of q(z|x); circles at one and two standard deviations of the prior."));
  updates.push(at => points[at(run)].forEach((p, i) => { dots[i].setAttribute("cx", X(p[0])); dots[i].setAttribute("cy", Y(p[1])); }));
}

// The networks, computed here. As multibeta/report/live.py computes them.
function network(given) {
  const bytes = Uint8Array.from(atob(given.numbers), c => c.charCodeAt(0));
  const numbers = new Float32Array(bytes.buffer);
  const simple = {silu: v => v / (1 + Math.exp(-v)), relu: v => Math.max(0, v), tanh: Math.tanh, sigmoid: v => 1 / (1 + Math.exp(-v))};
  return (part, k, x) => {
    for (const layer of given[part]) {
      if (layer.op !== "linear") { x = x.map(simple[layer.op]); continue; }
      const {out, in: size} = layer, y = new Float64Array(out), scaled = "scale" in layer;
      const start = layer.weight + (scaled ? 0 : k * out * size);
      for (let i = 0; i < out; i++) {
        let sum = 0;
        for (let j = 0, at = start + i * size; j < size; j++) sum += numbers[at + j] * x[j];
        y[i] = sum * (scaled ? numbers[layer.scale + k * out + i] : 1) + numbers[layer.bias + k * out + i];
      }
      x = y;
    }
    return x;
  };
}

function showLive(into, run) {
  if (!run.live || !run.examples || run.examples.kind !== "pictures") return;
  const run_ = network(run.live), [channels, h, w] = run.shape, latents = run.order.length;
  run.compute = run_;
  const z = new Float64Array(latents), plain = {k: 0};
  const screen = () => { const c = make("canvas", {role: "img"}); c.width = w; c.height = h; return c; };
  const paint = (canvas, x) => {
    const pen = canvas.getContext("2d"), image = pen.createImageData(w, h);
    for (let i = 0; i < h * w; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * x[(channels === 3 ? c : 0) * h * w + i];
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
  };
  const made = screen(), again = screen(), pad = screen();
  made.setAttribute("aria-label", "what the decoder makes of the latents");
  again.setAttribute("aria-label", "the reconstruction of what was drawn");
  pad.setAttribute("aria-label", "draw here, or drop a picture"); pad.className = "pad";
  const sliders = make("div", {class: "sliders"});
  const inputs = run.order.slice(0, 8).map(j => {
    const id = `z-${content.runs.indexOf(run)}-${j}`;
    const input = make("input", {type: "range", min: -3, max: 3, step: .05, value: 0, id}), shown = make("output", {for: id}, "0");
    input.addEventListener("input", () => { z[j] = Number(input.value); shown.textContent = short(z[j], 3); decode(); });
    sliders.append(make("label", {for: id}, `z${j}`), input, shown);
    return [input, shown, j];
  });
  const set = values => {
    values.forEach((v, j) => { z[j] = v; });
    for (const [input, shown, j] of inputs) { input.value = z[j]; shown.textContent = short(z[j], 3); }
    decode();
  };
  const decode = () => paint(made, run_("decoder", plain.k, z));
  const x = new Float64Array(channels * h * w);
  const reconstruct = () => paint(again, run_("decoder", plain.k, run_("encoder", plain.k, x).slice(0, latents)));
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const button = (text, act) => { const of = make("button", {type: "button"}, text); of.addEventListener("click", act); return of; };
  const show = () => { paint(pad, x); reconstruct(); };
  const stroke = event => {
    const box = pad.getBoundingClientRect(), px = (event.clientX - box.left) / box.width * w, py = (event.clientY - box.top) / box.height * h;
    const radius = Math.max(.75, w / 20);
    for (let i = 0; i < h; i++) for (let j = 0; j < w; j++) {
      const ink = Math.max(0, Math.min(1, 1.3 - Math.hypot(j + .5 - px, i + .5 - py) / radius));
      for (let c = 0; c < channels; c++) x[c * h * w + i * w + j] = Math.max(x[c * h * w + i * w + j], ink);
    }
    show();
  };
  pad.addEventListener("pointerdown", event => { pad.setPointerCapture(event.pointerId); stroke(event); });
  pad.addEventListener("pointermove", event => { if (event.buttons) stroke(event); });
  const load = async file => {
    const bitmap = await createImageBitmap(file), side = Math.min(bitmap.width, bitmap.height);
    const small = screen(), pen = small.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, w, h);
    const data = pen.getImageData(0, 0, w, h).data;
    for (let i = 0; i < h * w; i++) for (let c = 0; c < channels; c++) {
      x[c * h * w + i] = (channels === 3 ? data[4 * i + c] : .299 * data[4 * i] + .587 * data[4 * i + 1] + .114 * data[4 * i + 2]) / 255;
    }
    show();
  };
  pad.addEventListener("dragover", event => event.preventDefault());
  pad.addEventListener("drop", event => { event.preventDefault(); if (event.dataTransfer.files[0]) load(event.dataTransfer.files[0]); });
  const id = `file-${content.runs.indexOf(run)}`, file = make("input", {type: "file", accept: "image/*", id});
  file.addEventListener("change", () => { if (file.files[0]) load(file.files[0]); });
  const of = card(into, "Try it: the model itself, computed in this page", make("div", {class: "live"},
    make("div", {}, figure("Move the latents", made), sliders, button("sample", () => set(z.map(normal))), " ", button("zero", () => set(z.map(() => 0)))),
    make("div", {}, figure("Draw, or drop a picture", pad), figure("its reconstruction at this β", again),
      button("clear", () => { x.fill(0); show(); }), " ", make("label", {for: id}, "or a file: "), file)));
  of.classList.add("wide");
  show();
  updates.push(at => { plain.k = at(run); decode(); reconstruct(); });
}

function showRun(run) {
  const cards = make("div", {class: "cards"});
  document.getElementById("runs").append(make("h2", {}, run.name), make("p", {}, run.headline), cards);
  showOne(cards, run);
  showNumbers(cards, run);
  const column = name => run.rows.map(row => row[name]), unit = run.unit === "nats" ? "nats" : run.unit;
  if (run.rows.length > 1) {
    const [plane, [mark]] = chart("distortion against rate; the line has the slope −β", [column("rate_nats")], [column(run.distortion)],
      {xName: "rate R (nats)", yName: `distortion D (${unit})`, slopes: [run.betas], height: 260});
    card(cards, "The rate–distortion plane", plane, make("p", {}, "At the point the curve falls with the slope −β."));
    const [rate, [atRate]] = chart("rate over β", [run.betas], [column("rate_nats")], {logX: true, xName: "β", yName: "rate R (nats)", height: 180});
    const [distortion, [atD]] = chart("distortion over β", [run.betas], [column(run.distortion)], {logX: true, xName: "β", yName: `D (${unit})`, height: 180});
    card(cards, "The curve over β", rate, distortion);
    updates.push(at => { const k = at(run); for (const move of [mark, atRate, atD]) move(k, run.betas[k]); });
  }
  showExamples(cards, run);
  showFile(cards, run);
  showLatents(cards, run);
  showScatter(cards, run);
  showLive(cards, run);
  const list = make("dl");
  for (const [name, text] of run.about) list.append(make("dt", {}, name), make("dd", {}, text.includes("\n") ? make("pre", {}, text) : text));
  const about = card(cards, "What was run", make("details", {}, make("summary", {}, "model, data, settings, versions, limits, how to cite"), list));
  about.classList.add("wide");
}

if (content.runs.length > 1) {
  const several = content.runs.filter(run => run.rows.length > 1), cards = make("div", {class: "cards"});
  document.getElementById("runs").append(make("h2", {}, "Side by side"), cards);
  const units = new Set(several.map(run => run.distortion + run.unit));
  if (several.length > 1 && units.size === 1) {
    const [svg, marks] = chart("distortion against rate of all runs", several.map(run => run.rows.map(row => row.rate_nats)),
      several.map(run => run.rows.map(row => row[run.distortion])),
      {xName: "rate R (nats)", yName: "distortion D", slopes: several.map(run => run.betas), height: 260});
    const key = make("div", {class: "key"});
    several.forEach((run, i) => { const spot = make("i"); spot.style.background = COLOURS[i]; key.append(make("span", {}, spot, run.name)); });
    card(cards, "Curves", svg, key);
    updates.push(at => several.forEach((run, i) => marks[i](at(run), run.betas[at(run)])));
  }
  card(cards, "Verdict", make("pre", {tabindex: 0}, content.verdict)).classList.add("wide");
}
content.runs.forEach(showRun);
document.getElementById("foot").textContent = `Made by multibeta ${content.version}. This file holds everything; nothing is sent or fetched.`;

const dial = document.getElementById("beta"), value = document.getElementById("value");
dial.max = betas.length - 1;
dial.value = betas.reduce((best, b, k) => Math.abs(Math.log(b) - (low + high) / 2) < Math.abs(Math.log(betas[best]) - (low + high) / 2) ? k : best, 0);
dial.disabled = betas.length < 2;
function turn() {
  const beta = betas[Number(dial.value)];
  value.textContent = `= ${short(beta, 3)}`;
  dial.setAttribute("aria-valuetext", `β = ${short(beta, 3)}`);
  const at = run => nearest(run, beta);
  for (const update of updates) update(at, beta);
}
dial.addEventListener("input", turn);
document.addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step || event.target.tagName === "INPUT" || event.target.tagName === "PRE") return;
  dial.value = Number(dial.value) + step;
  turn();
});
turn();
window.multibeta = {content, turn};
})();
