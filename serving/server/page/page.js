// Sends a picture to the REST API of the server that this page comes from, and shows the answer. Text from the server
// reaches the page through textContent and fillText only.

const MEBIBYTE = 2 ** 20;
const LARGEST_FILE = 64 * MEBIBYTE;
const LARGEST_SENT = 8 * MEBIBYTE; // what is larger is made smaller first
const LONGEST_SIDE = 4096; // likewise, in pixels
const SMALLER_SIDE = 2048;
const TIMEOUT = 60_000; // milliseconds
const TOP = 5;
const MOST_ROWS = 100;
const VOID = 255; // a mask's "no class"
const DETECTION_OUTPUTS = ["boxes", "classes", "scores", "num_detections"];
const MASK_OUTPUTS = ["mask", "masks", "segmentation_mask", "segmentation"];
const INTEGERS = /^DT_U?INT\d+$/;

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const stage = element("stage");
const modelSelect = element("model");
const versionSelect = element("version");
const answerSection = element("results").closest("section");

let models = []; // as /demo/models lists them
let picture = null; // what is shown and sent
let answer = null; // what the model made of it
let running = new AbortController(); // the work under way; a newer picture or model aborts it

/** Something to tell the reader; `retry` where the same may work later. */
class Trouble extends Error {
  constructor(text, retry = false) {
    super(text);
    this.retry = retry;
  }
}

/** The server's own error. */
class Refusal extends Trouble {
  constructor(status, text) {
    super(`The server answered with an error (${status}): ${text}`, status === 408 || status === 429 || status >= 500);
    this.status = status;
  }
}

// ---- The server ----

async function ask(path, body, signal) {
  const options = { cache: "no-store", signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]) };
  if (body) {
    Object.assign(options, { method: "POST", body, headers: { "Content-Type": "application/json" } });
  }
  const start = performance.now();
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    throw signal.aborted ? error : noAnswer(error);
  }
  const roundTrip = performance.now() - start;
  const content = parse(text, response);
  if (!response.ok) {
    throw new Refusal(response.status, readable(content?.error ?? response.statusText));
  }
  const serverTime = /\bdur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return { content, roundTrip, serverTime: serverTime && Number(serverTime[1]) };
}

function noAnswer(error) {
  if (error.name === "TimeoutError") {
    return new Trouble(`The server at ${location.host} gave no answer within ${TIMEOUT / 1000} s.`, true);
  }
  const text = `The server at ${location.host} cannot be reached. It may have stopped, or the network is down.`;
  return new Trouble(text, true);
}

function parse(text, response) {
  try {
    return JSON.parse(text);
  } catch {
    if (!response.ok) return null;
    const why = /\b(NaN|Infinity)\b/.test(text) ? "it holds NaN or Infinity, which JSON lacks" : "it is no JSON";
    throw new Trouble(`The server's answer cannot be read: ${why}.`);
  }
}

/** TensorFlow's message without its addresses of nodes, on one line. */
function readable(message) {
  const text = String(message).split("[[{{")[0].replace(/\s+/g, " ").trim();
  return text.length > 400 ? `${text.slice(0, 400)} …` : text;
}

async function loadModels(signal) {
  const { content } = await ask("demo/models", null, signal);
  models = content.models.filter((model) => model.versions.length);
  fill(modelSelect, models.map((model) => [model.name, model.name]));
  fillVersions();
  if (!models.length) {
    throw new Trouble("The server has no model available.", true);
  }
}

function fillVersions() {
  const { versions, labels } = models.find((model) => model.name === modelSelect.value) ?? { versions: [], labels: {} };
  const text = (version, index) => {
    const words = Object.keys(labels).filter((label) => labels[label] === version);
    if (index === 0 && versions.length > 1) words.unshift("newest");
    return words.length ? `${version} – ${words.join(", ")}` : version;
  };
  fill(versionSelect, versions.map((version, index) => [version, text(version, index)]));
}

/** Sets the options of a select; what was chosen stays, if it is still there. */
function fill(select, entries) {
  const chosen = select.value;
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  select.disabled = !entries.length;
  if (entries.some(([value]) => value === chosen)) {
    select.value = chosen;
  }
}

// ---- What a model's signatures offer ----

/** The signature to send the picture to, and what its outputs are. */
function plan(name, signatures) {
  const usable = Object.keys(signatures).filter((key) => takesPicture(signatures[key])).sort();
  const key = ["encoded_image", "serving_default"].find((favourite) => usable.includes(favourite)) ?? usable[0];
  if (key === undefined) {
    const there = Object.keys(signatures).sort().join(", ");
    throw new Trouble(
      `The model ${name} takes no encoded pictures: none of its signatures (${there}) has a single input, a string ` +
        "with the name image_bytes. An export by keras_mobilenet has one, encoded_image.",
    );
  }
  const outputs = signatures[key].outputs;
  const mask = Object.keys(outputs).find((output) => isMask(output, outputs[output]));
  const classify = Object.keys(signatures).find(
    (other) => other === "classify" || signatures[other].method_name === "tensorflow/serving/classify",
  );
  if (DETECTION_OUTPUTS.every((output) => output in outputs)) return { key, outputs, kind: "boxes" };
  if (mask !== undefined) return { key, outputs, kind: "mask", mask };
  return { key, outputs, kind: "classes", classify };
}

function takesPicture(signature) {
  const names = Object.keys(signature.inputs ?? {});
  return names.length === 1 && names[0] === "image_bytes" && signature.inputs.image_bytes.dtype === "DT_STRING";
}

/** Known by its name, or as whole numbers of the shape [N, H, W] or [N, H, W, 1]. */
function isMask(name, { dtype, tensor_shape: shape }) {
  if (MASK_OUTPUTS.includes(name)) return true;
  const sizes = shape.unknown_rank ? [] : shape.dim.map((dim) => dim.size);
  return INTEGERS.test(dtype) && (sizes.length === 3 || (sizes.length === 4 && sizes[3] === "1"));
}

async function askModel(signal) {
  const [name, version] = [modelSelect.value, versionSelect.value];
  const path = `v1/models/${encodeURIComponent(name)}/versions/${version}`;
  const metadata = await ask(`${path}/metadata`, null, signal);
  const chosen = plan(name, metadata.content.metadata.signature_def.signature_def);
  const { reply, verb, key } = await askFor(chosen, path, signal);
  return {
    ...read(chosen, verb, reply.content),
    name,
    version,
    request: `POST /${path}:${verb} · ${key} · ${size(picture.sentBytes)}`,
    roundTrip: reply.roundTrip,
    serverTime: reply.serverTime,
  };
}

/** Classify knows the labels; where it fails (its tf.Example may want other features), Predict has the say. */
async function askFor(chosen, path, signal) {
  const encoded = { b64: picture.base64 };
  const send = async (verb, key, body) => {
    const reply = await ask(`${path}:${verb}`, JSON.stringify({ signature_name: key, ...body }), signal);
    return { reply, verb, key };
  };
  if (chosen.classify !== undefined) {
    try {
      return await send("classify", chosen.classify, { examples: [{ "image/encoded": encoded }] });
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 400)) throw error;
    }
  }
  return send("predict", chosen.key, { instances: [{ image_bytes: encoded }] });
}

function read(chosen, verb, content) {
  if (verb === "classify") {
    return { kind: "classes", classes: best(content.results[0]) };
  }
  // A single output stands without its name.
  const names = Object.keys(chosen.outputs);
  const row = names.length === 1 ? { [names[0]]: content.predictions[0] } : content.predictions[0];
  if (chosen.kind === "boxes") return { kind: "boxes", boxes: readBoxes(row) };
  if (chosen.kind === "mask") return { kind: "mask", ...readMask(row[chosen.mask]), names: row.class_names };
  return { kind: "classes", classes: best(readClasses(row, chosen.outputs)) };
}

function readClasses(row, outputs) {
  const vectors = Object.keys(row).filter((name) => Array.isArray(row[name]) && !Array.isArray(row[name][0]));
  const floats = vectors.filter((name) => !INTEGERS.test(outputs[name].dtype) && outputs[name].dtype !== "DT_STRING");
  const texts = vectors.filter((name) => outputs[name].dtype === "DT_STRING");
  const scores = floats.includes("scores") ? "scores" : floats.length === 1 ? floats[0] : undefined;
  if (scores === undefined) {
    const names = Object.keys(outputs).join(", ");
    throw new Trouble(`The model's outputs (${names}) do not tell which are the classes' scores.`);
  }
  const names = texts.length === 1 ? row[texts[0]] : (row.class_ids ?? []);
  return row[scores].map((score, index) => [label(names[index] ?? index), score]);
}

const label = (value) => (typeof value === "number" ? `class ${value}` : String(value));
const best = (classes) => [...classes].sort(([, one], [, other]) => other - one).slice(0, TOP);

/** Boxes are [ymin, xmin, ymax, xmax] as shares of the picture's height and width. */
function readBoxes(row) {
  const count = Math.min(Number(row.num_detections), row.boxes.length);
  const boxes = row.boxes.slice(0, count).map((corners, index) => ({
    corners: corners.map((share) => Math.min(Math.max(share, 0), 1)),
    class: row.class_names?.[index] ?? row.classes[index],
    score: row.scores[index],
  }));
  return boxes.sort((one, other) => other.score - one.score);
}

/** A class for each pixel: [H][W], [H][W][1], or the scores [H][W][classes]; it covers the whole picture. */
function readMask(rows) {
  const classOf = (cell) => {
    if (!Array.isArray(cell)) return cell;
    return cell.length === 1 ? cell[0] : cell.indexOf(Math.max(...cell));
  };
  const classes = rows.map((cells) => cells.map(classOf));
  const pixels = new Map();
  for (const id of classes.flat()) pixels.set(id, (pixels.get(id) ?? 0) + 1);
  const total = classes.length * classes[0].length;
  const shares = [...pixels].map(([id, number]) => [id, number / total]).sort(([, one], [, other]) => other - one);
  return { overlay: paintMask(classes), shares };
}

// ---- The picture ----

async function readPicture(file) {
  const name = file.name || "The picture";
  if (file.size > LARGEST_FILE) {
    throw new Trouble(`${name} has ${size(file.size)}; this page takes up to ${size(LARGEST_FILE)}.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Trouble(`${name} is not a picture that this browser can read. JPEG, PNG, GIF, BMP and WebP work.`);
  }
  const changes = await neededChanges(file, bitmap);
  const blob = changes.length ? await redrawn(bitmap, changes.includes("made smaller")) : file;
  return {
    bitmap,
    name,
    base64: await toBase64(blob),
    sentBytes: blob.size,
    note: [`${name}, ${bitmap.width} × ${bitmap.height} pixels`, ...changes].join(", "),
  };
}

/** What must be done to the file, so that the model sees what the reader sees. The server follows no orientation. */
async function neededChanges(file, bitmap) {
  const head = new DataView(await file.slice(0, 128 * 1024).arrayBuffer());
  const format = formatOf(head);
  const changes = [];
  if (format === undefined) changes.push("sent as JPEG");
  if (format === "JPEG" && orientation(head) !== 1) changes.push("sent upright");
  if (file.size > LARGEST_SENT || Math.max(bitmap.width, bitmap.height) > LONGEST_SIDE) changes.push("made smaller");
  return changes;
}

/** The formats that a server decodes. */
function formatOf(view) {
  if (view.byteLength < 4) return undefined;
  if (view.getUint32(0) >>> 8 === 0xffd8ff) return "JPEG";
  if (view.getUint32(0) === 0x89504e47) return "PNG";
  if (view.getUint32(0) === 0x47494638) return "GIF";
  return view.getUint16(0) === 0x424d ? "BMP" : undefined;
}

/** EXIF's orientation of a JPEG: 1 is upright, the others are turned or mirrored. */
function orientation(view) {
  try {
    let at = 2;
    while (view.getUint8(at) === 0xff && view.getUint8(at + 1) !== 0xda) {
      const isExif = view.getUint8(at + 1) === 0xe1 && view.getUint32(at + 4) === 0x45786966;
      if (isExif) return tiffOrientation(view, at + 10);
      at += 2 + view.getUint16(at + 2);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the file ends early
  }
  return 1;
}

function tiffOrientation(view, start) {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  for (let index = 0; index < view.getUint16(directory, little); index++) {
    const entry = directory + 2 + 12 * index;
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
  }
  return 1;
}

function redrawn(bitmap, smaller) {
  const scale = smaller ? Math.min(1, SMALLER_SIDE / Math.max(bitmap.width, bitmap.height)) : 1;
  const copy = new OffscreenCanvas(Math.max(1, bitmap.width * scale), Math.max(1, bitmap.height * scale));
  const context = copy.getContext("2d");
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, copy.width, copy.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, copy.width, copy.height);
  return copy.convertToBlob({ type: "image/jpeg", quality: 0.95 });
}

function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Trouble(`The file cannot be read: ${reader.error.message}`));
    reader.readAsDataURL(blob);
  });
}

// ---- Drawing ----

function draw() {
  if (!picture) return;
  const { bitmap } = picture;
  const longest = Math.max(bitmap.width, bitmap.height);
  const scale = Math.min(Math.max(longest, 720), 1600) / longest;
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (answer?.kind === "mask") drawMask(context);
  if (answer?.kind === "boxes") drawBoxes(context);
}

function drawMask(context) {
  context.save();
  context.globalAlpha = Number(element("opacity").value);
  context.imageSmoothingEnabled = false;
  context.drawImage(answer.overlay, 0, 0, canvas.width, canvas.height);
  context.restore();
}

function paintMask(classes) {
  const overlay = new OffscreenCanvas(classes[0].length, classes.length);
  const context = overlay.getContext("2d");
  const data = context.createImageData(overlay.width, overlay.height);
  const colours = new Map();
  classes.flat().forEach((id, index) => {
    if (id === 0 || id === VOID) return; // the background and what has no class stay clear
    if (!colours.has(id)) colours.set(id, rgb(id));
    data.data.set([...colours.get(id), 255], 4 * index);
  });
  context.putImageData(data, 0, 0);
  return overlay;
}

function drawBoxes(context) {
  // A CSS pixel; the canvas is fitted into its box.
  const unit = Math.max(canvas.width / (canvas.clientWidth || 1), canvas.height / (canvas.clientHeight || 1));
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const box of [...shownBoxes()].reverse()) drawBox(context, box, unit);
}

function drawBox(context, box, unit) {
  const [top, left, bottom, right] = box.corners;
  const [x, y] = [left * canvas.width, top * canvas.height];
  const [width, height] = [(right - left) * canvas.width, (bottom - top) * canvas.height];
  const colour = `rgb(${rgb(box.class).join(" ")})`;
  context.lineWidth = 5 * unit;
  context.strokeStyle = "rgb(0 0 0 / 0.6)";
  context.strokeRect(x, y, width, height);
  context.lineWidth = 3 * unit;
  context.strokeStyle = colour;
  context.strokeRect(x, y, width, height);
  const text = `${label(box.class)} ${percent(box.score)}`;
  const chip = [context.measureText(text).width + 10 * unit, 20 * unit];
  const chipX = Math.max(0, Math.min(x, canvas.width - chip[0]));
  const chipY = y >= chip[1] ? y - chip[1] : y;
  context.fillStyle = colour;
  context.fillRect(chipX, chipY, ...chip);
  context.fillStyle = "black";
  context.fillText(text, chipX + 5 * unit, chipY + 3 * unit);
}

/** A light colour for a class, far from its neighbours': red, green and blue up to 255. */
function rgb(id) {
  const letters = typeof id === "number" ? [] : [...String(id)];
  const number = letters.length ? letters.reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 997, 7) : id;
  const hue = (number * 137.508 + 60) % 360; // the golden angle
  const [saturation, lightness] = [0.85, 0.62];
  const channel = (offset) => {
    const place = (offset + hue / 30) % 12;
    const swing = saturation * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - swing * Math.max(-1, Math.min(place - 3, 9 - place, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

// ---- The answer ----

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const milliseconds = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;
const size = (bytes) => (bytes < MEBIBYTE ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MEBIBYTE).toFixed(1)} MiB`);
const least = () => Number(element("threshold").value);
const shownBoxes = () => answer.boxes.filter((box) => box.score >= least());

function show() {
  draw();
  const rows = { classes: classRows, boxes: boxRows, mask: maskRows }[answer.kind]();
  element("results").replaceChildren(...rows.slice(0, MOST_ROWS).map(resultRow));
  element("results").hidden = !rows.length;
  const text = summary(rows);
  say(text, answer.kind === "classes");
  canvas.ariaLabel = `${picture.note}. ${text}`;
  element("overlay-tools").hidden = answer.kind === "classes";
  element("threshold-tool").hidden = answer.kind !== "boxes";
  element("opacity-tool").hidden = answer.kind !== "mask";
  element("round-trip").textContent = milliseconds(answer.roundTrip);
  element("server-time").textContent = answer.serverTime === null ? "not told" : milliseconds(answer.serverTime);
  element("model-name").textContent = answer.name;
  element("model-version").textContent = answer.version;
  element("request").textContent = answer.request;
  element("facts").hidden = false;
}

function classRows() {
  const shares = answer.classes.every(([, score]) => score >= 0 && score <= 1.001);
  const largest = Math.max(...answer.classes.map(([, score]) => Math.abs(score)));
  return answer.classes.map(([name, score]) => ({
    name,
    text: shares ? percent(score) : score.toPrecision(4), // logits, say, are no shares
    share: shares ? score : Math.max(0, score / largest),
  }));
}

function boxRows() {
  return shownBoxes().map((box) => ({
    name: label(box.class),
    text: percent(box.score),
    share: box.score,
    colour: rgb(box.class),
  }));
}

function maskRows() {
  return answer.shares.map(([id, share]) => ({
    name: id === VOID ? "no class" : (answer.names?.[id] ?? label(id)),
    text: percent(share),
    share,
    colour: id === 0 || id === VOID ? null : rgb(id),
  }));
}

function summary(rows) {
  if (answer.kind === "boxes") {
    return `${rows.length} of ${answer.boxes.length} boxes have a score of at least ${Math.round(100 * least())} %.`;
  }
  if (answer.kind === "mask") return "Share of the picture's area:";
  return rows.length ? `${rows[0].name}: ${rows[0].text}` : "The model gave no class.";
}

function resultRow({ name, text, share, colour }) {
  const row = document.createElement("li");
  const nameCell = part("name", name);
  if (colour) {
    const swatch = part("swatch", "");
    swatch.style.background = `rgb(${colour.join(" ")})`;
    nameCell.prepend(swatch);
  }
  const bar = part("bar", "");
  bar.ariaHidden = "true";
  const filling = document.createElement("span");
  bar.append(filling);
  row.append(nameCell, part("share", text), bar);
  requestAnimationFrame(() => (filling.style.width = `${100 * Math.min(share, 1)}%`));
  return row;
}

function part(className, text) {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = text;
  return span;
}

function say(text, onlyAloud = false) {
  element("message").textContent = text;
  element("message").classList.toggle("aloud", onlyAloud);
}

function forget() {
  answer = null;
  for (const id of ["results", "facts", "overlay-tools"]) element(id).hidden = true;
  draw();
}

function complain(error) {
  if (!(error instanceof Trouble)) console.error(error);
  forget();
  say("");
  element("error-text").textContent = error instanceof Trouble ? error.message : `The page failed: ${error.message}`;
  element("again").hidden = !error.retry;
  element("error").hidden = false;
}

// ---- What the reader does ----

/** Does `work` in place of what is under way, and tells of its trouble. */
async function instead(work) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  element("error").hidden = true;
  answerSection.ariaBusy = "true";
  try {
    await work(signal);
  } catch (error) {
    if (!signal.aborted) complain(error);
  } finally {
    if (!signal.aborted) answerSection.ariaBusy = "false";
  }
}

const usePicture = (file) =>
  instead(async (signal) => {
    const next = await readPicture(file);
    if (signal.aborted) return;
    picture = next;
    forget();
    element("sent").textContent = picture.note;
    element("sent").hidden = canvas.hidden = false;
    element("pick-text").textContent = "Choose another picture";
    stage.classList.add("filled");
    canvas.ariaLabel = picture.note;
    draw();
    await useModel(signal);
  });

async function useModel(signal) {
  if (!models.length) await loadModels(signal);
  if (!picture) {
    say("Choose a picture to see what the model makes of it.");
    return;
  }
  say("Waiting for the server …");
  let next;
  try {
    next = await askModel(signal);
  } catch (error) {
    // The version may have made room for a newer one.
    if (!(error instanceof Refusal && error.status === 404)) throw error;
    await loadModels(signal);
    next = await askModel(signal);
  }
  if (signal.aborted) return;
  answer = next;
  show();
}

function useTransfer(transfer) {
  const files = [...transfer.files];
  const file = files.find((one) => one.type.startsWith("image/")) ?? files[0];
  if (file) usePicture(file);
  return Boolean(file);
}

element("file").addEventListener("change", ({ target }) => {
  if (target.files.length) usePicture(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => useTransfer(event.clipboardData) && event.preventDefault());
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  if (!useTransfer(event.dataTransfer)) {
    instead(async () => {
      throw new Trouble("What was dropped is no file. Save the picture first, or copy and paste it.");
    });
  }
});
modelSelect.addEventListener("change", () => {
  versionSelect.replaceChildren(); // the newest of the other model
  fillVersions();
  instead(useModel);
});
versionSelect.addEventListener("change", () => instead(useModel));
element("again").addEventListener("click", () => instead(useModel));
for (const id of ["threshold", "opacity"]) {
  element(id).addEventListener("input", ({ target }) => {
    element(`${id}-value`).textContent = `${Math.round(100 * target.value)} %`;
    if (answer) show();
  });
}
window.addEventListener("resize", draw);
window.addEventListener("focus", () => loadModels(running.signal).catch(() => {})); // versions come and go

instead(useModel);
