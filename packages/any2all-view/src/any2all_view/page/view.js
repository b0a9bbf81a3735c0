"use strict";
// Each modality has its own NiiVue, and all share the crosshair. `chosen` determines what is shown.
const at = id => document.getElementById(id);
const COLOURS = { error: "inferno", spread: "viridis" };
const PLANES = { "three planes": 3, axial: 0, coronal: 1, sagittal: 2 };
const chosen = { over: "none", opacity: 1, draw: 0, part: 0 };
const cells = [];

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function said(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

const colours = kind => COLOURS[kind] ?? (kind.startsWith("mask") ? "red" : "gray");
const layerOf = (modality, kind) => modality.layers.findIndex(layer => layer.kind === kind);

// Return the frame of a layer for the chosen draw or part of k-space, which the layer may lack.
function frameOf(layer) {
  const wanted = layer.kind === "measurement" ? chosen.part : chosen.draw;
  return Math.min(wanted, layer.frames.length - 1);
}

function volumeOf(cell, place, opacity) {
  const layer = cell.modality.layers[place];
  const mask = layer.kind.startsWith("mask");
  return {
    url: `volumes/${cell.number}/${place}/${frameOf(layer)}.nii`,
    name: `${layer.kind}.nii`,
    colormap: colours(layer.kind),
    opacity,
    cal_min: mask ? 0.5 : layer.low,
    cal_max: layer.high,
    trustCalMinMax: false,
  };
}

// The middle voxel's centre in shares of the volume's sides. A point between two slices would show both.
function middle(viewer) {
  return [1, 2, 3].map(axis => centre(viewer, axis, Math.floor(viewer.volumes[0].dimsRAS[axis] / 2)));
}

const centre = (viewer, axis, index) => (index + 0.5) / viewer.volumes[0].dimsRAS[axis];

// If several choices arrive while one is loading, only the last is shown.
async function refresh(cell) {
  cell.wanted = true;
  if (cell.busy) return;
  cell.busy = true;
  while (cell.wanted) {
    cell.wanted = false;
    const over = layerOf(cell.modality, chosen.over);
    const volumes = [volumeOf(cell, 0, 1)];
    if (over > 0) volumes.push(volumeOf(cell, over, chosen.opacity));
    const key = JSON.stringify(volumes.map(volume => volume.url));
    if (key !== cell.key) {
      const place = cell.key && [...cell.viewer.scene.crosshairPos];
      await cell.viewer.loadVolumes(volumes);
      cell.viewer.scene.crosshairPos = place || middle(cell.viewer);
      cell.key = key;
    } else if (over > 0) {
      cell.viewer.setOpacity(1, chosen.opacity);
    }
    cell.viewer.drawScene();
    colourBar(cell, over > 0 ? over : 0);
  }
  cell.busy = false;
  cell.figure.dataset.shown = cell.key;
}

const refreshAll = () => Promise.all(cells.map(refresh));

function colourBar(cell, place) {
  const layer = cell.modality.layers[place];
  const lut = cell.viewer.colormap(colours(layer.kind));
  const picture = cell.ramp.getContext("2d");
  const pixels = picture.createImageData(256, 1);
  pixels.data.set(lut.map((value, k) => (k % 4 === 3 ? 255 : value)));
  picture.putImageData(pixels, 0, 0);
  cell.low.textContent = said(layer.low);
  cell.high.textContent = said(layer.high);
  const over = chosen.over === "none" || place > 0 ? "" : `; there is no ${chosen.over}`;
  const frame = layer.frames[frameOf(layer)];
  const unit = cell.modality.unit ? ` (${cell.modality.unit})` : "";
  cell.of.textContent = `${layer.kind}${frame ? `, ${frame}` : ""}${unit}${over}`;
}

async function add(modality, number) {
  const cell = { modality, number };
  const canvas = element("canvas");
  cell.ramp = element("canvas", { width: 256, height: 1 });
  cell.low = element("span");
  cell.high = element("span");
  cell.of = element("span", { className: "of" });
  cell.figure = element(
    "figure", {},
    element("figcaption", {}, element("b", { textContent: modality.name }), ` ${modality.said}`),
    element("div", { className: "stage" }, canvas),
    element("div", { className: "bar" }, cell.low, cell.ramp, cell.high, cell.of),
    element("ul", { className: "notes" }, ...modality.notes.map(text => element("li", { textContent: text }))),
  );
  at("modalities").append(cell.figure);
  cell.viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairWidth: 1,
    crosshairWidthUnit: "mm",
    crosshairColor: [0.2, 0.8, 1, 0.7],
    dragAndDropEnabled: false,
    isColorbar: false,
    isForceMouseClickToVoxelCenters: true,
    isRadiologicalConvention: true,
    loadingText: "",
    multiplanarShowRender: 0,
    sliceType: PLANES["three planes"],
    logLevel: "error",
  });
  await cell.viewer.attachToCanvas(canvas);
  cells.push(cell);
  await refresh(cell);
}

// A slider over names. It is hidden if there are fewer than two.
function slider(id, names) {
  at(`${id}-of`).hidden = names.length < 2;
  at(id).max = Math.max(names.length - 1, 0);
  const tell = () => { at(`${id}-name`).textContent = names[chosen[id]] ?? ""; };
  at(id).addEventListener("input", () => {
    chosen[id] = Number(at(id).value);
    tell();
    refreshAll();
  });
  tell();
}

function longest(modalities, kind) {
  const frames = modalities.flatMap(m => m.layers.filter(l => l.kind === kind).map(l => l.frames));
  return frames.sort((a, b) => b.length - a.length)[0] ?? [];
}

function play() {
  let turn = null;
  const stop = () => { clearInterval(turn); turn = null; at("play").textContent = "play"; };
  at("play").addEventListener("click", () => {
    if (turn !== null) return stop();
    at("play").textContent = "stop";
    turn = setInterval(() => {
      if (cells.some(cell => cell.busy)) return;
      at("draw").value = (chosen.draw + 1) % (Number(at("draw").max) + 1);
      at("draw").dispatchEvent(new Event("input"));
    }, 700);
  });
}

function choices(select, names) {
  select.replaceChildren(...names.map(name => new Option(name, name)));
}

function tellSlice() {
  const { viewer } = cells[0];
  const count = viewer.volumes[0].dimsRAS[3];
  const slice = Math.min(Math.floor(viewer.scene.crosshairPos[2] * count), count - 1);
  at("slice").value = slice;
  at("slice-name").textContent = `${slice} (lowest: 0)`;
}

async function start() {
  const patient = await (await fetch("patient.json")).json();
  const modalities = patient.modalities;
  at("note").textContent = patient.note;
  const kinds = new Set(modalities.flatMap(m => m.layers.slice(1).map(layer => layer.kind)));
  choices(at("over"), ["none", ...kinds]);
  choices(at("planes"), Object.keys(PLANES));
  slider("draw", longest(modalities, "image"));
  const parts = longest(modalities, "measurement");
  chosen.part = Math.max(parts.length - 1, 0);
  slider("part", parts);
  at("part").value = chosen.part;
  play();
  at("over").addEventListener("change", () => {
    chosen.over = at("over").value;
    refreshAll();
  });
  at("opacity").addEventListener("input", () => {
    chosen.opacity = Number(at("opacity").value) / 100;
    refreshAll();
  });
  at("planes").addEventListener("change", () => {
    for (const cell of cells) cell.viewer.setSliceType(PLANES[at("planes").value]);
  });
  at("part").addEventListener("input", () => {
    if (chosen.over === "measurement") return;
    at("over").value = "measurement";
    at("over").dispatchEvent(new Event("change"));
  });
  for (const [number, modality] of modalities.entries()) await add(modality, number);
  for (const cell of cells) {
    cell.viewer.broadcastTo(cells.filter(other => other !== cell).map(other => other.viewer));
    cell.viewer.onLocationChange = tellSlice;
  }
  at("slice").max = cells[0].viewer.volumes[0].dimsRAS[3] - 1;
  at("slice").addEventListener("input", () => {
    const { viewer } = cells[0];
    viewer.scene.crosshairPos[2] = centre(viewer, 3, Number(at("slice").value));
    const place = viewer.frac2mm(viewer.scene.crosshairPos);
    for (const { viewer: other } of cells) {
      other.scene.crosshairPos = other.mm2frac(place);
      other.drawScene();
    }
    tellSlice();
  });
  tellSlice();
  document.body.dataset.ready = "yes";
}

start().catch(error => { at("note").textContent = `Nothing can be shown: ${error.message}`; throw error; });
