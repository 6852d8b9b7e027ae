// The explorer: frames and maps come in as data, everything that is a matter of looking happens here.
// One ES module without imports. `mount(root, bundle, home)` draws; the functions above it are pure and tested in node.
// What a bundle holds is said in experiment/report/bundle.py. Every text of a bundle is set as text, never as HTML.

// ---------------------------------------------------------------- numbers

/** IEEE 754 binary16 → number: sign · 2^(e−15) · (1 + f/1024), subnormal below e = 1, e = 31: infinite, NaN. */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  if (exponent === 0) return sign * fraction * 2 ** -24
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
}

/** base64 of little-endian float16, as shares of `peak` → amounts per patch. */
export function decodeMap(base64, peak) {
  const bytes = atob(base64)
  const values = new Float32Array(bytes.length >> 1)
  for (let i = 0; i < values.length; i++) {
    values[i] = peak * halfToNumber(bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8))
  }
  return values
}

/** The part of a signed amount that is shown. */
export function part(value, sign) {
  if (sign === "for") return Math.max(value, 0)
  if (sign === "against") return Math.max(-value, 0)
  return value
}

/** Sums and extremes of what is shown; cells that are not numbers are counted apart. */
export function summary(values, sign) {
  const found = { shown: 0, for: 0, against: 0, largest: 0, odd: 0 }
  for (const value of values) {
    if (!Number.isFinite(value)) {
      found.odd++
      continue
    }
    found.for += Math.max(value, 0)
    found.against += Math.max(-value, 0)
    found.largest = Math.max(found.largest, Math.abs(part(value, sign)))
  }
  found.shown = sign === "for" ? found.for : sign === "against" ? found.against : found.for + found.against
  return found
}

/** Amount per patch at full colour: of the run, of this frame (not below the unit's floor), or as given. */
export function fullColour(state, question, largest) {
  if (state.scale === "value" && state.full > 0) return state.full
  const floor = question.floor || 0
  return (state.scale === "run" ? question.full : Math.max(largest, floor)) || 1
}

/** A number as people read it: three digits. */
export function said(value) {
  if (!Number.isFinite(value)) return "not a number"
  const text = Number(value.toPrecision(3))
  return (Math.abs(text) >= 1e5 || (text && Math.abs(text) < 1e-4) ? text.toExponential(2) : String(text)).replace(
    "-",
    "−",
  )
}

// ---------------------------------------------------------------- colours (17 stops of matplotlib's maps)

const STOPS = {
  plasma:
    "0d0887310597 4c02a16600a7 7e03a89511a1 aa2395bc3587 cc4778da5a6a e66c5cf0804e f89540fdac33 fdc527f8df25 f0f921",
  viridis:
    "44015448186a 472d7b424086 3b528b33638d 2c728e26828e 21918c1fa088 28ae803fbc73 5ec96284d44b addc30d8e219 fde725",
  cividis:
    "00224e002e6a 1a386f32436d 434e6c535a6d 61656f6f7073 7d7c788c8878 9b9476aba072 bcae6ccdbb63 dec958f0d846 fee838",
  magma:
    "0000040a0822 1d114736106b 51127c6a1c81 8326819c2e7f b73779d0416f e75263f56b5c fc8961fea772 fec488fde2a3 fcfdbf",
  "red–blue":
    "0530611752902a71b23f8ec0 6bacd19bc9e0 c2ddece0ecf3 f7f6f6 fbe5d8fbccb4 f5aa89e48066 d05548ba2832 930e2667001f",
  "orange–purple":
    "2d004b4518715f3a917b6aa8 9990bfb7b1d5 cfcfe5e4e5f0 f7f7f6 fce8cdfed59f fdbc6bee9b39 d97b12bd6109 9e4c077f3b08",
}
export const ONE_SIDED = ["plasma", "viridis", "cividis", "magma"]
export const TWO_SIDED = ["red–blue", "orange–purple"]
const SATURATED = 0.8 // two-sided: smaller amounts have this one's colour, and less of it
const tables = new Map()

/** 256 colours of a palette, as one array of bytes. */
export function colourTable(name) {
  if (tables.has(name)) return tables.get(name)
  const digits = STOPS[name].replaceAll(" ", "")
  const stop = (k, c) => parseInt(digits.slice(6 * k + 2 * c, 6 * k + 2 * c + 2), 16)
  const table = new Uint8Array(768)
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * 16
    const k = Math.min(15, Math.floor(at))
    for (let c = 0; c < 3; c++) table[3 * i + c] = Math.round(stop(k, c) + (at - k) * (stop(k + 1, c) - stop(k, c)))
  }
  tables.set(name, table)
  return table
}

/** Where a display value in [−1, 1] lies in the 256 colours. */
function colourIndex(value, twoSided) {
  if (!twoSided) return Math.round(255 * value)
  const shade = Math.sign(value) * Math.max(Math.abs(value), SATURATED)
  return Math.round(127.5 + 127.5 * shade)
}

/** The palette that fits the sign: two-sided for both. */
export function paletteOf(state) {
  return state.sign === "both" ? state.palette2 : state.palette
}

/** Amounts → RGBA, a pixel a patch: opacity grows with the amount, below the threshold is nothing, NaN is grey. */
export function shade(values, full, state) {
  const both = state.sign === "both"
  const table = colourTable(paletteOf(state))
  const pixels = new Uint8ClampedArray(4 * values.length)
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      pixels.set([128, 128, 128, 230], 4 * i)
      continue
    }
    const value = Math.max(-1, Math.min(1, part(values[i], state.sign) / full))
    const size = Math.abs(value)
    if (size === 0 || size < state.threshold) continue
    const at = 3 * colourIndex(value, both)
    pixels.set([table[at], table[at + 1], table[at + 2], 255 * state.opacity * size], 4 * i)
  }
  return pixels
}

// ---------------------------------------------------------------- places

/** Tiles with values row by row → one grid as they lie in the image; of a thumbnail its own grid. */
export function asGrid(values, layout, thumbnail) {
  const {
    side,
    grid: [rows, columns],
  } = layout
  if (thumbnail) return { rows: side, columns: side, values: values.slice(rows * columns * side * side) }
  const out = new Float32Array(rows * columns * side * side)
  const width = columns * side
  for (let y = 0; y < rows * side; y++) {
    for (let x = 0; x < width; x++) {
      const tile = Math.floor(y / side) * columns + Math.floor(x / side)
      out[y * width + x] = values[(tile * side + (y % side)) * side + (x % side)]
    }
  }
  return { rows: rows * side, columns: width, values: out }
}

/** The token of a patch: by the model's own wiring, or 2×2 patches in rows. */
export function tokenOf(layout, patch) {
  if (layout.token_patches) return layout.token_patches.findIndex((four) => four.includes(patch))
  const row = Math.floor(patch / layout.side),
    column = patch % layout.side
  return (row >> 1) * (layout.side >> 1) + (column >> 1)
}

/** The four patches of a token. */
export function patchesOf(layout, token) {
  if (layout.token_patches) return layout.token_patches[token]
  const half = layout.side >> 1
  const first = 2 * Math.floor(token / half) * layout.side + 2 * (token % half)
  return [first, first + 1, first + layout.side, first + layout.side + 1]
}

/** Which patch saw a point of the frame (px); null outside the part that the model sees. */
export function placeAt(layout, x, y, thumbnail = false) {
  const [x0, y0, x1, y1] = layout.crop
  if (!(x >= x0 && x < x1 && y >= y0 && y < y1)) return null
  const [rows, columns] = thumbnail ? [1, 1] : layout.grid
  const column = Math.floor(((x - x0) / (x1 - x0)) * columns * layout.side)
  const row = Math.floor(((y - y0) / (y1 - y0)) * rows * layout.side)
  const tile = thumbnail
    ? layout.grid[0] * layout.grid[1]
    : Math.floor(row / layout.side) * columns + Math.floor(column / layout.side)
  const patch = (row % layout.side) * layout.side + (column % layout.side)
  return { tile, patch, row: row % layout.side, column: column % layout.side, token: tokenOf(layout, patch) }
}

/** A patch's box in the frame, px: x, y, width, height. */
export function patchBox(layout, tile, patch) {
  const [x0, y0, x1, y1] = layout.crop
  const whole = tile >= layout.grid[0] * layout.grid[1]
  const [rows, columns] = whole ? [1, 1] : layout.grid
  const width = (x1 - x0) / (columns * layout.side),
    height = (y1 - y0) / (rows * layout.side)
  const row = (whole ? 0 : Math.floor(tile / columns)) * layout.side + Math.floor(patch / layout.side)
  const column = (whole ? 0 : tile % columns) * layout.side + (patch % layout.side)
  return [x0 + column * width, y0 + row * height, width, height]
}

/** Whether a point lies inside a polygon: a ray to the right crosses its edges an odd number of times. */
export function inPolygon(points, x, y) {
  let inside = false
  for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
    const [xi, yi] = points[i],
      [xj, yj] = points[j]
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside
  }
  return inside
}

/** The objects under a point, smallest box first. */
export function objectsAt(rows, x, y) {
  const area = ({ box: [a, b, c, d] }) => (c - a) * (d - b)
  const hit = ({ box: [a, b, c, d], outline }) =>
    outline && outline.length ? outline.some((p) => inPolygon(p, x, y)) : x >= a && x < c && y >= b && y < d
  return rows.filter((row) => hit(row)).sort((a, b) => area(a) - area(b))
}

const LABELLED = 8 // objects with a label, the strongest
/** Okabe and Ito: told apart by everybody. */
export const OBJECT_COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]

/** A minus before a target asks for less of a quantity; the quantity, and the sign of its change. */
export function quantityOf(target) {
  return target.startsWith("-") ? [target.slice(1), -1] : [target, 1]
}

/** What an object does to the quantity: its Shapley value, or what taking it away alone does; null when unknown. */
export function effectOf(row, target) {
  const value = row.shapley ?? row.alone
  return typeof value === "number" ? quantityOf(target)[1] * value : null
}

/** Decimals that give the largest of these amounts two digits. */
export function decimalsOf(values) {
  const most = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs))
  return most ? Math.min(9, Math.max(0, 1 - Math.floor(Math.log10(most)))) : 1
}

/** "+3.2", "−0.4", "0.0"; "–" where nothing is known. */
export function signed(value, decimals) {
  if (!Number.isFinite(value)) return "–"
  const text = Math.abs(value).toFixed(decimals)
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`
}

/** Decimals of everything that is said about objects. */
export function objectDecimals(rows) {
  return decimalsOf(rows.flatMap((row) => [row.shapley ?? row.alone, row.for, row.against]))
}

/** "1 car ahead"; a region that was found has its number in its name. */
export function objectName(row, i) {
  const name = row.name.length > 24 ? `${row.name.slice(0, 23)}…` : row.name
  return /^region \d+$/.test(name) ? name : `${i + 1} ${name}`
}

/** "1 car ahead −3.2 m/s". */
export function objectLabel(row, i, question, decimals) {
  const effect = effectOf(row, question.target)
  return effect === null ? objectName(row, i) : `${objectName(row, i)} ${signed(effect, decimals)} ${question.unit}`
}

const apart = (a, b) => a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]

/** Boxes of labels inside a frame, none over another or, while there is room, over an object; null without a place. */
export function placeLabels(boxes, sizes, [width, height]) {
  const small = boxes.filter(([a, b, c, d]) => (c - a) * (d - b) < (width * height) / 8)
  const taken = []
  return boxes.map(([x0, y0, x1, y1], i) => {
    const [w, h] = sizes[i]
    if (w > width || h > height) return null
    const inside = ([x, y]) => {
      const at = [Math.min(Math.max(x, 0), width - w), Math.min(Math.max(y, 0), height - h)]
      return [at[0], at[1], at[0] + w, at[1] + h]
    }
    const [u, v] = [(x0 + x1) / 2, (y0 + y1) / 2]
    const near = [
      [u - w / 2, y0 - h - 2],
      [u - w / 2, y1 + 2],
      [x1 + 2, v - h / 2],
      [x0 - w - 2, v - h / 2],
    ]
    const grid = []
    for (let y = 0; y <= height - h; y += h / 2) for (let x = 0; x <= width - w; x += h) grid.push([x, y])
    const far = ([x, y]) => Math.hypot(x + w / 2 - u, y + h / 2 - v)
    grid.sort((a, b) => far(a) - far(b))
    const free = [...near, ...grid].map(inside).filter((box) => taken.every((other) => apart(box, other)))
    const best = free.find((box) => small.every((other) => apart(box, other))) || free[0] || null
    if (best) taken.push(best)
    return best
  })
}

const MOST_PARTS = 12 // tiles and words that are listed, the strongest
/** The sources that are listed, in their order, and how many weaker tiles and words are not. */
export function listedSources(rows) {
  const part = (row) => row.kind === "tile" || row.kind === "word"
  const size = (row) => Math.max(Math.abs(row.contribution ?? 0), Math.abs(row.exchanged ?? 0))
  const parts = rows.filter(part).sort((a, b) => size(b) - size(a))
  const kept = new Set(parts.slice(0, MOST_PARTS))
  return [rows.filter((row) => !part(row) || kept.has(row)), Math.max(0, parts.length - MOST_PARTS)]
}

/** Where in the sequence an image token stands, from runs of [first position, count]; null when nobody knows. */
export function positionOf(runs, n, tile, token) {
  let left = tile * n + token
  for (const [first, count] of runs || []) {
    if (left < count) return first + left
    left -= count
  }
  return null
}

/** The same pick again takes it away. */
export function togglePick(picks, pick) {
  const same = (other) => other.every((value, i) => value === pick[i])
  return picks.some(same) ? picks.filter((other) => !same(other)) : [...picks, pick]
}

/** Patches of all picks, each once: "tile:patch". */
export function pickedPatches(layout, picks) {
  const keys = new Set()
  for (const [kind, tile, index] of picks) {
    for (const patch of kind === "token" ? patchesOf(layout, index) : [index]) keys.add(`${tile}:${patch}`)
  }
  return [...keys].map((key) => key.split(":").map(Number))
}

// ---------------------------------------------------------------- the state

export const FIRST = {
  frame: 0,
  question: 0,
  beside: "",
  split: 0.5,
  threshold: 0,
  opacity: 0.8,
  palette: "plasma",
  palette2: "red–blue",
  scale: "run",
  full: 0,
  sign: "for",
  smooth: false,
  outlines: true,
  points: true,
  tiles: false,
  thumbnail: false,
  kind: "patch",
  picks: [],
  object: -1,
  theme: "",
}

/** What is shown first: the bundle's own start over the defaults. */
export function firstState(bundle) {
  const state = { ...FIRST, ...bundle.start }
  if (!(bundle.start && bundle.start.sign)) state.sign = bundle.questions[state.question]?.sign || "for"
  return state
}

/** A state as the end of a link: only what differs from the first one. */
export function writeState(state, first) {
  const out = new URLSearchParams()
  for (const key of Object.keys(FIRST)) {
    if (JSON.stringify(state[key]) !== JSON.stringify(first[key])) out.set(key, JSON.stringify(state[key]))
  }
  return out.toString()
}

const inRange = (value, count) => Number.isInteger(value) && value >= 0 && value < count

/** Of the end of a link: values of the right kind, within the bundle; all else is left as it was. */
export function readState(text, first, bundle) {
  const state = { ...first }
  for (const [key, raw] of new URLSearchParams(text)) {
    let value
    try {
      value = JSON.parse(raw)
    } catch {
      continue
    }
    if (key in FIRST && typeof value === typeof FIRST[key] && Array.isArray(value) === Array.isArray(FIRST[key])) {
      state[key] = value
    }
  }
  const whole = (key, count) => {
    if (!inRange(state[key], count)) state[key] = first[key]
  }
  whole("frame", bundle.frames.length)
  whole("question", bundle.questions.length)
  const share = (key) => {
    if (!(state[key] >= 0 && state[key] <= 1)) state[key] = first[key]
  }
  ;["split", "threshold", "opacity"].forEach(share)
  const one = (key, words) => {
    if (!words.includes(state[key])) state[key] = first[key]
  }
  one("palette", ONE_SIDED)
  one("palette2", TWO_SIDED)
  one("scale", ["run", "frame", "value"])
  one("sign", ["for", "against", "both"])
  one("kind", ["patch", "token"])
  const layout = bundle.layouts[bundle.frames[state.frame]?.layout]
  const exists = ([kind, tile, index]) => {
    const count = layout.side ** 2 / (kind === "token" ? 4 : 1)
    return ["patch", "token"].includes(kind) && inRange(tile, layout.tiles) && inRange(index, count)
  }
  state.picks = layout ? state.picks.filter((pick) => Array.isArray(pick) && exists(pick)) : []
  return state
}

/** A line of Python that opens the same. */
export function pythonLine(bundle, state) {
  const frame = bundle.frames[state.frame],
    question = bundle.questions[state.question]
  const text = (value) => JSON.stringify(String(value))
  const parts = [bundle.source_code || text(bundle.source || "run")]
  if (frame) parts.push(`frame=${text(frame.name)}`)
  if (question) parts.push(`target=${text(question.target)}`, `method=${text(question.method)}`)
  for (const key of ["threshold", "opacity", "sign", "scale", "palette"]) {
    if (state[key] !== FIRST[key])
      parts.push(`${key}=${typeof state[key] === "string" ? text(state[key]) : state[key]}`)
  }
  return `explore(${parts.join(", ")})`
}

// ---------------------------------------------------------------- what belongs together

/** The answer of a frame to a question, with its amounts decoded once; null when there is none. */
export function answerOf(bundle, frame, question) {
  const answer = bundle.frames[frame]?.answers.find((a) => a.question === question)
  if (!answer) return null
  if (answer.map && !answer.values) answer.values = decodeMap(answer.map, answer.peak)
  return answer
}

/** Frames of one scene and run, in order: what is played. */
export function sceneOf(bundle, frame) {
  const own = bundle.frames[frame]
  if (!own) return []
  return bundle.frames
    .map((f, i) => i)
    .filter((i) => bundle.frames[i].scene === own.scene && bundle.frames[i].run === own.run)
}

/** What stands on the right of the divider: {frame, question}; null when nothing is compared. */
export function besideOf(bundle, state) {
  const kind = state.beside[0],
    number = Number(state.beside.slice(1))
  if (kind === "q" && bundle.questions[number]) return { frame: state.frame, question: number }
  if (kind === "f" && bundle.frames[number]) return { frame: number, question: state.question }
  if (kind === "r") {
    const own = bundle.frames[state.frame]
    const frame = bundle.frames.findIndex((f) => f.run === number && f.scene === own.scene && f.name === own.name)
    return { frame, question: state.question }
  }
  return null
}

/** A side of the picture: frame, layout, amounts as a grid, full colour. */
export function sideOf(bundle, state, frame, question) {
  const answer = answerOf(bundle, frame, question)
  const picture = bundle.frames[frame] || null
  const layout = picture ? bundle.layouts[picture.layout] : null
  const side = { frame: picture, layout, answer, question: bundle.questions[question], grid: null, sums: null, full: 1 }
  if (!answer || !answer.values || !layout) return side
  side.sums = summary(answer.values, state.sign)
  side.full = fullColour(state, side.question, side.sums.largest)
  side.grid = asGrid(answer.values, layout, state.thumbnail && layout.thumbnail)
  return side
}

/** One or two sides; two in one unit share the larger full colour. */
export function sidesOf(bundle, state) {
  const left = sideOf(bundle, state, state.frame, state.question)
  const other = besideOf(bundle, state)
  if (!other) return [left]
  const right = sideOf(bundle, state, other.frame, other.question)
  if (left.question && right.question && left.question.map_unit === right.question.map_unit) {
    left.full = right.full = Math.max(left.full, right.full)
  }
  return [left, right]
}

/** What hovering says, in lines. */
export function hoverLines(side, state, x, y) {
  if (!side.layout) return []
  const place = placeAt(side.layout, x, y, state.thumbnail && side.layout.thumbnail)
  if (!place) return ["outside the part of the frame that the model sees"]
  const lines = []
  const values = side.answer && side.answer.values
  if (values) {
    const value = values[place.tile * side.layout.side ** 2 + place.patch]
    lines.push(`${said(value)} ${side.question.map_unit} per patch`)
  }
  const position = positionOf(side.frame.positions, (side.layout.side / 2) ** 2, place.tile, place.token)
  lines.push(`tile ${place.tile} · patch ${place.row}, ${place.column}`)
  lines.push(`image token ${place.token}${position === null ? "" : ` at position ${position}`}`)
  const rows = (side.answer && side.answer.objects && side.answer.objects.rows) || []
  for (const row of objectsAt(rows, x, y).slice(0, 2)) lines.push(`object: ${row.name}`)
  return lines
}

// ---------------------------------------------------------------- drawing

const POINTS = { route: "#00dcff", speed: "#ffd23f" }
const PICK = "#7dff6a"

/** A side's map over its picture inside the box of the frame; `clip` is the part of the box that is drawn. */
function drawSide(pen, box, side, picture, state, clip) {
  const [x, y, width, height] = box
  pen.save()
  pen.beginPath()
  pen.rect(x + clip[0] * width, y, (clip[1] - clip[0]) * width, height)
  pen.clip()
  pen.imageSmoothingEnabled = true
  pen.fillStyle = "#777"
  pen.fillRect(x, y, width, height)
  if (picture) pen.drawImage(picture, x, y, width, height)
  if (side.grid) drawMap(pen, box, side, state)
  if (side.frame) drawMarks(pen, box, side, state)
  pen.restore()
}

/** One pixel a patch, enlarged; smoothing interpolates between the middles of patches. */
function drawMap(pen, [x, y, width, height], side, state) {
  const { rows, columns, values } = side.grid
  const small = sheet(columns, rows)
  small.getContext("2d").putImageData(new ImageData(shade(values, side.full, state), columns, rows), 0, 0)
  const [h, w] = side.layout.frame,
    [x0, y0, x1, y1] = side.layout.crop
  pen.imageSmoothingEnabled = state.smooth
  pen.imageSmoothingQuality = "high"
  pen.drawImage(small, x + (x0 / w) * width, y + (y0 / h) * height, ((x1 - x0) / w) * width, ((y1 - y0) / h) * height)
}

const sheets = new Map()
/** A canvas of that size, used again. */
function sheet(width, height) {
  const key = `${width}x${height}`
  if (!sheets.has(key)) sheets.set(key, Object.assign(document.createElement("canvas"), { width, height }))
  return sheets.get(key)
}

/** Way-points, objects, tiles and picks, in px of the frame. */
function drawMarks(pen, [x, y, width, height], side, state) {
  const [h, w] = side.layout.frame
  const at = ([u, v]) => [x + (u / w) * width, y + (v / h) * height]
  const thin = Math.max(1, width / 900)
  if (state.tiles) drawBoxes(pen, tileBoxes(side.layout), at, "#ffffffb0", thin)
  if (state.outlines && side.question) drawObjects(pen, side, state, at, thin, [x, y, width, height])
  if (state.points) {
    for (const kind of ["route", "speed"]) drawWay(pen, side.frame[kind] || [], at, POINTS[kind], thin)
  }
  const patches = pickedPatches(
    side.layout,
    state.picks.filter(([, tile]) => tile < side.layout.tiles),
  )
  drawBoxes(
    pen,
    patches.map(([tile, patch]) => patchBox(side.layout, tile, patch)),
    at,
    PICK,
    1.5 * thin,
  )
}

function tileBoxes(layout) {
  const last = layout.side * layout.side - 1
  return Array.from({ length: layout.grid[0] * layout.grid[1] }, (_, tile) => {
    const [x, y] = patchBox(layout, tile, 0),
      [u, v, w, h] = patchBox(layout, tile, last)
    return [x, y, u + w - x, v + h - y]
  })
}

function drawBoxes(pen, boxes, at, colour, width) {
  pen.strokeStyle = colour
  pen.lineWidth = width
  for (const [x, y, w, h] of boxes) {
    const [a, b] = at([x, y]),
      [c, d] = at([x + w, y + h])
    pen.strokeRect(a, b, c - a, d - b)
  }
}

/** A polygon a part; the box where an object has no outline. */
function outlineOf({ box: [a, b, c, d], outline }) {
  return outline && outline.length
    ? outline
    : [
        [
          [a, b],
          [c, b],
          [c, d],
          [a, d],
        ],
      ]
}

/** The objects of a side, those that a label names, and their labels in px of a picture of that size. */
function labelsOf(side, [width, height], letters, widthOf) {
  const rows = (side.answer && side.answer.objects && side.answer.objects.rows) || []
  const [h, w] = side.layout.frame
  const named = rows.slice(0, LABELLED)
  const decimals = objectDecimals(rows)
  const texts = named.map((row, i) => objectLabel(row, i, side.question, decimals))
  const boxes = named.map(({ box: [a, b, c, d] }) => [
    (a / w) * width,
    (b / h) * height,
    (c / w) * width,
    (d / h) * height,
  ])
  const sizes = texts.map((text) => [widthOf(text) + letters * 0.6, letters * 1.5])
  return placeLabels(boxes, sizes, [width, height])
    .map((place, i) => ({ place, text: texts[i], colour: OBJECT_COLOURS[i % OBJECT_COLOURS.length] }))
    .filter(({ place }) => place)
}

const lettersOf = (width) => Math.max(11, width / 64)

function drawObjects(pen, side, state, at, thin, [x, y, width, height]) {
  const rows = (side.answer && side.answer.objects && side.answer.objects.rows) || []
  rows
    .map((row, i) => [row, i])
    .reverse()
    .forEach(([row, i]) => {
      pen.beginPath()
      for (const polygon of outlineOf(row)) {
        polygon.forEach((point, k) => (k ? pen.lineTo(...at(point)) : pen.moveTo(...at(point))))
        pen.closePath()
      }
      const thick = (i === state.object ? 4 : 2) * thin
      for (const [colour, more] of [
        ["#000", 3],
        ["#fff", 1.4],
        [OBJECT_COLOURS[i % OBJECT_COLOURS.length], 0],
      ]) {
        pen.strokeStyle = colour
        pen.lineWidth = thick + more * thin
        pen.stroke()
      }
    })
  const letters = lettersOf(width)
  pen.font = `${letters}px sans-serif`
  pen.textBaseline = "middle"
  for (const { place, text, colour } of labelsOf(side, [width, height], letters, (t) => pen.measureText(t).width)) {
    const [a, b, c, d] = place
    pen.fillStyle = "#000"
    pen.fillRect(x + a, y + b, c - a, d - b)
    pen.strokeStyle = colour
    pen.lineWidth = 1.5 * thin
    pen.strokeRect(x + a, y + b, c - a, d - b)
    pen.fillStyle = "#fff"
    pen.fillText(text, x + a + letters * 0.3, y + (b + d) / 2)
  }
}

function drawWay(pen, points, at, colour, thin) {
  if (!points.length) return
  pen.beginPath()
  points.forEach((point, k) => (k ? pen.lineTo(...at(point)) : pen.moveTo(...at(point))))
  pen.strokeStyle = colour
  pen.lineWidth = 1.5 * thin
  pen.stroke()
  for (const point of points) {
    pen.beginPath()
    pen.arc(...at(point), 3.2 * thin, 0, 2 * Math.PI)
    pen.fillStyle = colour
    pen.fill()
    pen.strokeStyle = "#000"
    pen.lineWidth = thin
    pen.stroke()
  }
}

/** The whole picture in a box: one side, or two with a divider. */
function drawView(pen, box, sides, pictures, state) {
  const split = sides.length > 1 ? state.split : 1
  drawSide(pen, box, sides[0], pictures[0], state, [0, split])
  if (sides.length < 2) return
  drawSide(pen, box, sides[1], pictures[1], state, [split, 1])
  const x = box[0] + split * box[2]
  pen.strokeStyle = "#000"
  pen.lineWidth = 4
  line(pen, x, box[1], x, box[1] + box[3])
  pen.strokeStyle = "#fff"
  pen.lineWidth = 2
  line(pen, x, box[1], x, box[1] + box[3])
  pen.beginPath()
  pen.arc(x, box[1] + box[3] / 2, 9, 0, 2 * Math.PI)
  pen.fillStyle = "#fff"
  pen.fill()
  pen.strokeStyle = "#000"
  pen.stroke()
}

function line(pen, a, b, c, d) {
  pen.beginPath()
  pen.moveTo(a, b)
  pen.lineTo(c, d)
  pen.stroke()
}

// ---------------------------------------------------------------- words of a side

/** "lateral = 1.23 m". */
export function valueLine(side) {
  if (!side.question) return ""
  const value = side.answer && side.answer.value
  return value === undefined || value === null
    ? side.question.target
    : `${side.question.target} = ${said(value)} ${side.question.unit}`
}

/** How much is shown, and what full colour is. */
export function shownLine(side, state) {
  if (!side.sums) return ""
  const {
    sums,
    question: { map_unit: unit },
  } = side
  const amount =
    state.sign === "both"
      ? `for ${said(sums.for)}, against ${said(sums.against)} ${unit}`
      : `shown ${said(sums.shown)} ${unit}`
  const odd = sums.odd ? ` · ${sums.odd} of ${side.answer.values.length} patches are not numbers (grey)` : ""
  return `${amount}; full colour is ${said(side.full)} ${unit} per patch${odd}`
}

/** Everything that is worth knowing about a side, in lines; a refusal instead of a map is the first. */
export function noteLines(side) {
  if (!side.question) return []
  if (!side.frame) return ["the other run has no frame of this name"]
  if (!side.answer) return [`no map of ${side.question.target} by ${side.question.method} for this frame`]
  return [side.answer.refused, side.answer.swap, side.answer.certificate, ...(side.answer.notes || [])].filter(Boolean)
}

// ---------------------------------------------------------------- export

const escaped = (text) =>
  String(text).replace(/[<>&"]/g, (c) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" })[c])

/** The picture as SVG: the frame as it is, a rectangle a patch, way-points, outlines, and the words below. */
export function svgOf(side, state, picture) {
  const [h, w] = side.layout.frame
  const size = Math.max(11, w / 64),
    lines = [valueLine(side), shownLine(side, state), ...noteLines(side)].filter(Boolean)
  const high = h + size * (1.5 * lines.length + 0.8)
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${high}" font-family="sans-serif">`,
    `<image href="${escaped(picture)}" width="${w}" height="${h}" preserveAspectRatio="none"/>`,
  ]
  if (side.grid) out.push(...svgPatches(side, state))
  if (state.outlines && side.question) out.push(...svgObjects(side, [w, h]))
  for (const kind of state.points ? ["route", "speed"] : []) {
    const points = side.frame[kind] || []
    if (points.length)
      out.push(
        `<polyline points="${points.map(([u, v]) => `${u},${v}`).join(" ")}" fill="none" stroke="${POINTS[kind]}"/>`,
      )
  }
  lines.forEach((text, i) =>
    out.push(`<text x="4" y="${h + size * 1.5 * (i + 1)}" font-size="${size}">${escaped(text)}</text>`),
  )
  return out.concat("</svg>").join("\n")
}

function svgObjects(side, [w, h]) {
  const out = [],
    letters = lettersOf(w)
  const rows = (side.answer && side.answer.objects && side.answer.objects.rows) || []
  rows.forEach((row, i) => {
    const colour = OBJECT_COLOURS[i % OBJECT_COLOURS.length]
    for (const polygon of outlineOf(row)) {
      const points = polygon.map(([u, v]) => `${Number(u)},${Number(v)}`).join(" ")
      for (const [stroke, width] of [
        ["#000", w / 200],
        [colour, w / 400],
      ]) {
        out.push(`<polygon points="${points}" fill="none" stroke="${stroke}" stroke-width="${width}"/>`)
      }
    }
  })
  for (const { place, text, colour } of labelsOf(side, [w, h], letters, (t) => 0.62 * letters * t.length)) {
    const [a, b, c, d] = place
    out.push(
      `<rect x="${a}" y="${b}" width="${c - a}" height="${d - b}" fill="#000" stroke="${colour}"/>`,
      `<text x="${a + 0.3 * letters}" y="${b + 1.1 * letters}" font-size="${letters}" fill="#fff">${escaped(text)}</text>`,
    )
  }
  return out
}

function svgPatches(side, state) {
  const { rows, columns, values } = side.grid,
    [x0, y0, x1, y1] = side.layout.crop
  const pixels = shade(values, side.full, state),
    w = (x1 - x0) / columns,
    h = (y1 - y0) / rows
  const out = []
  for (let i = 0; i < values.length; i++) {
    const [r, g, b, a] = pixels.subarray(4 * i, 4 * i + 4)
    if (a) {
      const x = x0 + (i % columns) * w,
        y = y0 + Math.floor(i / columns) * h
      out.push(
        `<rect x="${x}" y="${y}" width="${w}" height="${h}" ` +
          `fill="rgb(${r},${g},${b})" fill-opacity="${(a / 255).toFixed(3)}"/>`,
      )
    }
  }
  return out
}

// ---------------------------------------------------------------- the page

/** An element with attributes, listeners (on…) and children; strings become text. */
function el(name, attributes = {}, children = []) {
  const node = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value)
    else if (key in node && key !== "list") node[key] = value
    else node.setAttribute(key, value)
  }
  node.append(...[children].flat().filter((child) => child !== null && child !== undefined))
  return node
}

const NAMES = {
  threshold: "threshold",
  opacity: "opacity",
  smooth: "smooth",
  outlines: "objects",
  points: "way-points",
  tiles: "tiles",
  thumbnail: "thumbnail's map",
}
const KEYS = "← → frame · space plays · ↑ ↓ map · + − opacity · Esc clears picks"

class Explorer {
  constructor(root, bundle, home) {
    this.root = root
    this.bundle = bundle
    this.home = home
    this.first = firstState(bundle)
    this.state = readState(home.hash ? home.hash() : "", this.first, bundle)
    this.pictures = new Map()
    this.timer = null
    this.waiting = null
    this.build()
    this.listen()
    this.rebuild()
  }

  // ---- building, once

  build() {
    const make = (name, ...children) => el("div", { className: `vx-${name}` }, children)
    this.title = make("title")
    this.canvas = el("canvas", { className: "vx-picture", tabIndex: 0, ariaLabel: "frame with its map" })
    this.tip = make("tip")
    this.wait = make("wait")
    this.stage = make("stage", this.canvas, this.tip, this.wait)
    this.legend = el("canvas", { className: "vx-legend", height: 10 })
    this.ends = make("ends")
    this.scaleRow = make("scale", this.legend, this.ends)
    this.words = make("words")
    this.notes = make("notes")
    this.curve = el("canvas", { className: "vx-curve", ariaLabel: "the target over the scene" })
    this.left = make("left", this.title, this.stage, this.scaleRow, this.words, this.notes, this.curve)
    this.side = make("side")
    this.root.classList.add("vx")
    this.root.replaceChildren(this.left, this.side)
  }

  listen() {
    const stage = this.canvas
    stage.addEventListener("pointermove", (event) => this.hover(event))
    stage.addEventListener("pointerleave", () => this.hideTip())
    stage.addEventListener("pointerdown", (event) => this.press(event))
    stage.addEventListener("pointerup", () => (this.dragging = false))
    this.curve.addEventListener("pointerdown", (event) => this.seek(event))
    this.curve.addEventListener("pointermove", (event) => event.buttons && this.seek(event))
    this.root.tabIndex = 0
    this.root.addEventListener("keydown", (event) => this.key(event))
    this.watch = new ResizeObserver(() => this.draw())
    this.watch.observe(this.stage)
    this.watch.observe(this.curve)
  }

  // ---- the controls

  /** Everything in the column on the right; made again when what there is to choose from changes. */
  rebuild() {
    this.curveKey = null
    const parts = [this.what(), this.look(), this.beside(), this.picked(), this.objects(), this.sources(), this.out()]
    this.side.replaceChildren(...parts.filter(Boolean))
    this.root.dataset.theme = this.state.theme
    this.draw()
  }

  section(name, ...children) {
    return el("section", { className: `vx-${name}` }, [el("h2", {}, name), ...children])
  }

  row(label, control, value = null) {
    return el("label", { className: "vx-row" }, [el("span", {}, label), control, value])
  }

  select(key, options, onchange = null) {
    const change = (event) => (onchange || ((v) => this.set({ [key]: v }, true)))(event.target.value)
    const found = el(
      "select",
      { name: key, onchange: change },
      options.map(([value, text]) => el("option", { value }, text)),
    )
    found.value = String(this.state[key])
    return found
  }

  slider(key, least, most, step, format = said) {
    const value = el("output", {}, format(this.state[key]))
    const oninput = (event) => {
      value.textContent = format(Number(event.target.value))
      this.set({ [key]: Number(event.target.value) })
    }
    const control = el("input", { type: "range", name: key, min: least, max: most, step, oninput })
    control.value = this.state[key]
    return this.row(NAMES[key] || key, control, value)
  }

  check(key) {
    const box = el("input", {
      type: "checkbox",
      name: key,
      checked: this.state[key],
      onchange: (e) => this.set({ [key]: e.target.checked }),
    })
    return el("label", { className: "vx-check" }, [box, NAMES[key]])
  }

  what() {
    const { bundle, state } = this
    const rows = []
    const groups = new Map()
    bundle.frames.forEach((f, i) => groups.has(`${f.run}/${f.scene}`) || groups.set(`${f.run}/${f.scene}`, i))
    if (groups.size > 1) {
      const own = bundle.frames[state.frame]
      const several = bundle.runs.length > 1
      const options = [...groups.values()].map((i) => {
        const f = bundle.frames[i]
        return [i, [several ? bundle.runs[f.run] : "", bundle.scenes[f.scene]].filter(Boolean).join(" · ")]
      })
      const scenes = this.select("scene", options, (value) => this.go(Number(value)))
      scenes.value = String(groups.get(`${own.run}/${own.scene}`))
      rows.push(this.row(several ? "run, scene" : "scene", scenes))
    }
    rows.push(this.transport())
    if (bundle.questions.length > 1) {
      const names = bundle.questions.map((q, i) => [i, `${q.target} · ${q.method}`])
      rows.push(
        this.row(
          "map",
          this.select("question", names, (value) => this.choose(Number(value))),
        ),
      )
    }
    if (bundle.live) rows.push(...this.asking())
    return this.section("what", ...rows)
  }

  transport() {
    const scene = sceneOf(this.bundle, this.state.frame)
    this.name = el("output", { className: "vx-name" })
    const control = el("input", { type: "range", name: "frame", min: 0, max: Math.max(0, scene.length - 1), step: 1 })
    control.value = Math.max(0, scene.indexOf(this.state.frame))
    control.disabled = scene.length < 2
    control.addEventListener("input", () => this.go(scene[Number(control.value)]))
    this.frameControl = control
    const play = el("button", {
      name: "play",
      type: "button",
      title: "play the scene (space)",
      onclick: () => this.play(),
    })
    play.disabled = scene.length < 2
    this.playButton = play
    return el("div", { className: "vx-row vx-transport" }, [play, control, this.name])
  }

  /** What only a live model answers. */
  asking() {
    const { live } = this.bundle
    const before = this.asked || this.bundle.questions[this.state.question]?.ask || {}
    const line = (name, hint) => el("input", { name, placeholder: hint, value: before[name] || "" })
    const choice = (name, words) => {
      const control = el(
        "select",
        { name, onchange: () => this.showOptions(controls) },
        words.map((word) => el("option", { value: word }, word || "–")),
      )
      control.value = words.includes(before[name]) ? before[name] : words[0]
      return control
    }
    const frame = this.bundle.frames[this.state.frame]
    const target = line("target", live.targets[0])
    target.setAttribute("list", "vx-targets")
    const known = el(
      "datalist",
      { id: "vx-targets" },
      live.targets.map((word) => el("option", { value: word })),
    )
    const controls = {
      target,
      method: choice("method", live.methods),
      layers: line("layers", "all, or 2: or 0:3"),
      vision_layers: line("vision_layers", "all, or 2: or 0:3"),
      head: line("head", "mean of all"),
      twin: choice("twin", ["", ...((frame && frame.twins) || [])]),
      answer: line("answer", "its own words"),
    }
    const names = { vision_layers: "ViT layers", answer: "let it say" }
    this.askRows = Object.fromEntries(Object.entries(controls).map(([key, c]) => [key, this.row(names[key] || key, c)]))
    const ask = () => this.ask(Object.fromEntries(Object.entries(controls).map(([key, c]) => [key, c.value])))
    this.showOptions(controls)
    const button = el("button", { type: "button", name: "ask", className: "vx-ask", onclick: ask }, "ask the model")
    return [...Object.values(this.askRows), known, button]
  }

  /** Layers and heads belong to the attention rules, twins to rendered scenes. */
  showOptions({ method, layers, vision_layers: vision, head, twin }) {
    const rule = this.bundle.live.rules.includes(method.value)
    for (const control of [layers, vision, head]) {
      control.closest("label").hidden = !rule
      if (!rule) control.value = ""
    }
    twin.closest("label").hidden = twin.options.length < 2
  }

  look() {
    const { state, bundle } = this
    const signed = bundle.questions[state.question]?.signed
    const palette = state.sign === "both" ? ["palette2", TWO_SIDED] : ["palette", ONE_SIDED]
    const signs = [
      ["for", "for"],
      ["against", "against"],
      ["both", "both"],
    ].slice(0, signed ? 3 : 1)
    const full = el("input", {
      type: "number",
      name: "full",
      min: 0,
      step: "any",
      value: said(state.full || sidesOf(bundle, state)[0].full),
    })
    full.addEventListener("change", () => this.set({ full: Number(full.value) }))
    const scales = [
      ["run", "of the run"],
      ["frame", "of the frame"],
      ["value", "a value"],
    ]
    const layout = bundle.layouts[bundle.frames[state.frame]?.layout]
    const kinds = ["points", "outlines", "tiles", "smooth", ...(layout && layout.thumbnail ? ["thumbnail"] : [])]
    return this.section(
      "look",
      this.slider("threshold", 0, 1, 0.01),
      this.slider("opacity", 0, 1, 0.01),
      this.row("sign", this.select("sign", signs)),
      this.row(
        "colours",
        this.select(
          palette[0],
          palette[1].map((name) => [name, name]),
        ),
      ),
      this.row("scale", this.select("scale", scales), state.scale === "value" ? full : null),
      el(
        "div",
        { className: "vx-checks" },
        kinds.map((key) => this.check(key)),
      ),
    )
  }

  beside() {
    const { bundle, state } = this
    const options = [["", "–"]]
    bundle.questions.forEach((q, i) => i !== state.question && options.push([`q${i}`, `${q.target} · ${q.method}`]))
    bundle.runs.forEach((name, i) => i !== bundle.frames[state.frame]?.run && options.push([`r${i}`, `run ${name}`]))
    const scene = sceneOf(bundle, state.frame)
    if (scene.length > 1) options.push([state.beside[0] === "f" ? state.beside : `f${scene[0]}`, "another frame"])
    if (options.length < 2) return null
    const rows = [this.row("beside", this.select("beside", options))]
    if (state.beside[0] === "f") {
      const control = el("input", { type: "range", name: "other", min: 0, max: scene.length - 1, step: 1 })
      control.value = scene.indexOf(Number(state.beside.slice(1)))
      control.addEventListener("input", () => this.set({ beside: `f${scene[Number(control.value)]}` }))
      rows.push(this.row("frame", control))
    }
    if (state.beside) rows.push(this.slider("split", 0, 1, 0.005))
    return this.section("compare", ...rows)
  }

  picked() {
    const kinds = this.select("kind", [
      ["patch", "patches"],
      ["token", "image tokens"],
    ])
    this.pickList = el("div", { className: "vx-picks" })
    return this.section("pick", this.row("picks", kinds), this.pickList)
  }

  objects() {
    const found = this.partOf("objects")
    if (!found || !found.rows.length) return null
    const question = this.bundle.questions[this.state.question]
    const decimals = objectDecimals(found.rows)
    const rows = found.rows.map((row, i) => {
      const onclick = () => {
        this.set({ object: this.state.object === i ? -1 : i }, true)
        this.side.querySelectorAll(".vx-object")[i]?.focus() // the list was made anew
      }
      const chosen = i === this.state.object
      const about = { type: "button", className: "vx-object", onclick, ariaPressed: String(chosen) }
      const name = el("button", about, objectName(row, i))
      name.style.borderLeft = `4px solid ${OBJECT_COLOURS[i % OBJECT_COLOURS.length]}`
      const amount = (value) => (Number.isFinite(value) ? value.toFixed(decimals) : "–")
      const cells = [signed(effectOf(row, question.target), decimals), amount(row.for), amount(row.against)]
      return el("tr", { className: chosen ? "vx-chosen" : "", title: objectWords(row, found.unit) }, [
        el("td", {}, name),
        ...cells.map((cell) => el("td", {}, cell)),
      ])
    })
    const heads = ["object", found.unit, "for", "against"].map((t) => el("th", {}, t))
    const pairs = (found.interactions || []).map(
      (pair) => `${pair.first}, ${pair.second}: ${pair.kind}, ${said(pair.amount)} ${found.unit}`,
    )
    const what = `${found.unit}: change of ${quantityOf(question.target)[0]} by the object, measured; for and against: the map`
    const told = [found.contradiction, ...pairs, what, ...(found.notes || [])].filter(Boolean)
    const lines = told.slice(0, 7).map((text) => el("p", { className: "vx-keys", title: text }, text))
    return this.section("objects", el("table", {}, [el("tr", {}, heads), ...rows]), ...lines)
  }

  partOf(name) {
    return answerOf(this.bundle, this.state.frame, this.state.question)?.[name]
  }

  sources() {
    const found = this.partOf("sources")
    if (!found || !found.rows.length) return null
    const [listed, left] = listedSources(found.rows)
    const values = listed.flatMap((row) => [row.contribution, row.exchanged]).filter(Number.isFinite)
    const span = [Math.min(0, ...values), Math.max(0, ...values)]
    const amount = (value) => signed(value, decimalsOf(values))
    const told = el("p", { className: "vx-keys", ariaLive: "polite" })
    const rest = "bar: contribution; ◆: measured by exchange. Choose a row to read what stands there instead."
    told.textContent = rest
    const rows = listed.map((row) => {
      const instead = `${row.name}: adds ${amount(row.contribution)} ${found.unit}`
      const words = `${instead}; exchanged to ${row.exchanged_to}: ${amount(row.exchanged)} ${found.unit}`
      const tell = () => (told.textContent = words)
      const part = row.kind === "tile" || row.kind === "word"
      const about = { tabIndex: 0, title: words, ariaLabel: words, onfocus: tell, onclick: tell }
      return el("tr", { ...about, onblur: () => (told.textContent = rest) }, [
        el("td", { className: part ? "vx-part" : "" }, row.name),
        el("td", {}, amount(row.contribution)),
        el("td", {}, amountBar(row, span, part)),
        el("td", {}, amount(row.exchanged)),
      ])
    })
    const heads = ["source", found.unit, "", "◆"].map((t) => el("th", {}, t))
    const missed = Number.isFinite(found.complete) ? `the sum misses ${said(100 * found.complete)} %` : ""
    const more = left ? `${left} weaker tiles and words are not listed` : ""
    const last = [missed, more].filter(Boolean).join("; ")
    return this.section(
      "sources",
      el("table", {}, [el("tr", {}, heads), ...rows]),
      told,
      last ? el("p", { className: "vx-keys" }, last) : null,
    )
  }

  out() {
    const button = (text, onclick, title) => el("button", { type: "button", name: text, onclick, title }, text)
    this.told = el("input", { className: "vx-told", readOnly: true, ariaLabel: "to copy" })
    this.told.hidden = true
    const themes = [
      ["", "as the system"],
      ["light", "light"],
      ["dark", "dark"],
    ]
    return this.section(
      "save",
      el("div", { className: "vx-buttons" }, [
        button("PNG", () => this.savePng(), "at print size, 3000 px wide"),
        button("SVG", () => this.saveSvg(), "as lines and rectangles"),
        button("link", () => this.tell(this.link()), "this state as a link"),
        button("Python", () => this.tell(pythonLine(this.bundle, this.state)), "this state as a line"),
      ]),
      this.told,
      this.row("theme", this.select("theme", themes)),
      el("p", { className: "vx-keys" }, KEYS),
    )
  }

  // ---- changing the state

  /** Take over what is new and draw in the next frame of the screen. */
  set(change, rebuild = false) {
    this.state = { ...this.state, ...change }
    if (this.home.keep) this.home.keep(writeState(this.state, this.first))
    if (rebuild) this.rebuild()
    else this.draw()
  }

  /** Another frame; what belongs to a frame alone is forgotten. */
  go(frame) {
    const before = this.bundle.frames[this.state.frame],
      after = this.bundle.frames[frame]
    if (!after) return
    const same = before && before.scene === after.scene && before.run === after.run && before.layout === after.layout
    this.state = { ...this.state, frame, object: -1, picks: same ? this.state.picks : [] }
    const bare = !this.objectsOf(before) && !this.objectsOf(after)
    this.set({}, !(same && bare))
    if (this.bundle.live && !answerOf(this.bundle, frame, this.state.question)) this.askAgain()
  }

  objectsOf(frame) {
    return frame && frame.answers.some((a) => a.objects || a.sources)
  }

  /** Another map; its sign is the one that its question is shown with. */
  choose(question) {
    const sign = this.bundle.questions[question]?.sign || "for"
    this.set(
      { question, sign, object: -1, beside: this.state.beside === `q${question}` ? "" : this.state.beside },
      true,
    )
    if (this.bundle.live && !answerOf(this.bundle, this.state.frame, question)) this.askAgain()
  }

  step(by) {
    const scene = sceneOf(this.bundle, this.state.frame)
    const at = scene.indexOf(this.state.frame) + by
    if (at >= 0 && at < scene.length) this.go(scene[at])
    return at >= 0 && at < scene.length
  }

  play() {
    if (this.timer) return this.stop()
    const scene = sceneOf(this.bundle, this.state.frame)
    if (scene.length < 2) return
    if (this.state.frame === scene.at(-1)) this.go(scene[0])
    this.timer = setInterval(
      () => {
        if (!this.waiting && !this.step(1)) this.stop()
      },
      1000 / (this.bundle.rate || 4),
    )
    this.draw()
  }

  stop() {
    clearInterval(this.timer)
    this.timer = null
    this.draw()
  }

  key(event) {
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox") return
    if (event.key === " " && event.target.tagName === "BUTTON") return // presses it
    const act = {
      ArrowRight: () => this.step(1),
      ArrowLeft: () => this.step(-1),
      ArrowDown: () => this.state.question + 1 < this.bundle.questions.length && this.choose(this.state.question + 1),
      ArrowUp: () => this.state.question > 0 && this.choose(this.state.question - 1),
      " ": () => this.play(),
      "+": () => this.set({ opacity: Math.min(1, this.state.opacity + 0.05) }, true),
      "-": () => this.set({ opacity: Math.max(0, this.state.opacity - 0.05) }, true),
      Escape: () => this.set({ picks: [], object: -1 }, true),
    }[event.key]
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    act()
  }

  // ---- the live model

  /** One question is under way at most; the last one that was wished for in the meantime comes next. */
  ask(question) {
    if (!this.home.ask) return
    this.asked = question
    this.wish = { ...question, frame: this.state.frame }
    if (this.waiting) return
    this.waiting = performance.now()
    this.ticker = setInterval(() => this.sayWait(), 100)
    this.sayWait()
    const wish = this.wish
    this.wish = null
    this.home.ask(wish)
  }

  askAgain() {
    const { ask } = this.bundle.questions[this.state.question] || {}
    if (ask) this.ask(ask)
  }

  sayWait() {
    const seconds = (performance.now() - this.waiting) / 1000
    this.wait.textContent = this.waiting ? `asking the model … ${seconds.toFixed(1)} s` : ""
  }

  /** What the kernel said: one more answer (new, state), everything that it holds (bundle), or a reason (fault). */
  answered({ bundle, new: news, state = {}, fault = "" }) {
    if (bundle) this.bundle = JSON.parse(bundle)
    if (!bundle) {
      clearInterval(this.ticker)
      this.waiting = null
      this.wait.textContent = fault
    }
    if (news) this.take(JSON.parse(news), state)
    if (bundle || news) this.rebuild()
    if (!bundle && this.wish) this.ask(this.wish)
  }

  /** The one frame that is new, and the questions with their full colours. */
  take({ number, frame, ...rest }, state) {
    Object.assign(this.bundle, rest)
    this.bundle.frames[number] = frame
    const other = state.question !== undefined && state.question !== this.state.question
    if (other) this.state.sign = this.bundle.questions[state.question].sign
    this.state = { ...this.state, ...state }
  }

  // ---- drawing

  /** At most once a frame of the screen. */
  draw() {
    if (this.due) return
    this.due = true
    requestAnimationFrame(() => {
      this.due = false
      this.paint()
    })
  }

  paint() {
    const start = performance.now()
    const sides = sidesOf(this.bundle, this.state)
    this.sides = sides
    this.paintPicture(sides)
    this.paintWords(sides)
    this.paintLegend(sides[0])
    this.paintCurve()
    this.root.dataset.painted = String(1 + Number(this.root.dataset.painted || 0))
    this.root.dataset.ms = (performance.now() - start).toFixed(1)
  }

  /** The decoded picture of a frame, or null until it is there. */
  picture(frame) {
    if (!frame || !frame.picture) return null
    if (!this.pictures.has(frame)) {
      const image = new Image()
      image.onload = () => this.draw()
      image.src = frame.picture
      this.pictures.set(frame, image)
      if (this.pictures.size > 200) this.pictures.delete(this.pictures.keys().next().value)
    }
    const image = this.pictures.get(frame)
    return image.complete && image.naturalWidth ? image : null
  }

  /** The box of the picture inside the stage, px. */
  fit(width, height) {
    const layout = this.sides[0].layout
    const [h, w] = layout ? layout.frame : [9, 16]
    const scale = Math.min(width / w, height / h)
    return [(width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale]
  }

  paintPicture(sides) {
    const dots = window.devicePixelRatio || 1
    const width = Math.max(1, this.stage.clientWidth),
      height = Math.max(1, this.stage.clientHeight)
    const [w, h] = [Math.round(width * dots), Math.round(height * dots)]
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h })
    const pen = this.canvas.getContext("2d")
    pen.setTransform(dots, 0, 0, dots, 0, 0)
    pen.clearRect(0, 0, width, height)
    this.box = this.fit(width, height)
    drawView(
      pen,
      this.box,
      sides,
      sides.map((side) => this.picture(side.frame)),
      this.state,
    )
    const scene = sceneOf(this.bundle, this.state.frame),
      at = scene.indexOf(this.state.frame)
    this.picture(this.bundle.frames[scene[at + 1]]) // the next one is decoded meanwhile
  }

  /** What a side is, in a line; of two also which and where from. */
  titleOf(side, name, several) {
    const run = this.bundle.runs.length > 1 && side.frame ? this.bundle.runs[side.frame.run] : ""
    const from = several && side.frame ? ` · ${[run, side.frame.name].filter(Boolean).join(" ")}` : ""
    return el("div", {}, [
      several ? el("b", {}, `${name}: `) : null,
      el("strong", {}, valueLine(side)),
      side.question ? ` · ${side.question.method}` : "",
      from,
      side.answer && side.answer.stamp ? el("mark", {}, side.answer.stamp) : null,
    ])
  }

  paintWords(sides) {
    const { bundle, state } = this
    const frame = bundle.frames[state.frame]
    this.title.replaceChildren(...sides.map((side, i) => this.titleOf(side, ["left", "right"][i], sides.length > 1)))
    if (frame) this.name.textContent = frame.name
    if (this.frameControl) this.frameControl.value = sceneOf(bundle, state.frame).indexOf(state.frame)
    this.playButton.textContent = this.timer ? "❚❚" : "▶"
    this.paintSpoken(frame, sides[0])
    const notes = [...new Set(sides.flatMap(noteLines)), ...(bundle.notes || [])]
    this.notes.replaceChildren(...notes.map((text) => el("p", {}, text)))
    this.paintPicks(sides[0])
  }

  paintSpoken(frame, side) {
    const chosen = new Set((side.answer && side.answer.words) || [])
    const words = ((frame && frame.words) || []).filter((word) => !word.end)
    this.words.replaceChildren(
      ...(words.length ? [el("span", { className: "vx-label" }, "said")] : []),
      ...words.map((word) =>
        el(
          "button",
          {
            type: "button",
            className: chosen.has(word.index) ? "vx-chosen" : "",
            title: `word ${word.index} of the answer`,
            onclick: () => this.word(word),
          },
          word.text.trim() || JSON.stringify(word.text),
        ),
      ),
    )
  }

  /** A word that has a map is shown; a live model is asked; else it is said how to get one. */
  word(word) {
    const answers = this.bundle.frames[this.state.frame].answers
    const own = answers.find((a) => (a.words || []).length === 1 && a.words[0] === word.index)
    if (own) return this.choose(own.question)
    const before = this.bundle.questions[this.state.question]?.ask
    if (this.bundle.live) return this.ask({ ...before, target: `index:${word.index}` })
    this.tell(`no map of “${word.text.trim()}” was computed: ask with target="index:${word.index}"`, false)
  }

  paintPicks(side) {
    const { state } = this
    const values = side.answer && side.answer.values
    if (!state.picks.length) return this.pickList.replaceChildren("click the picture; again undoes")
    const n = side.layout.side ** 2
    const amount = (patches) =>
      patches.reduce((sum, [tile, patch]) => sum + (values ? part(values[tile * n + patch], state.sign) : 0), 0)
    const all = amount(pickedPatches(side.layout, state.picks))
    const share =
      side.sums && side.sums.shown && state.sign !== "both"
        ? ` = ${((100 * all) / side.sums.shown).toFixed(1)} % of what is shown`
        : ""
    const lines = state.picks.slice(-6).map((pick) => {
      const [kind, tile, index] = pick
      const place =
        kind === "token"
          ? `token ${index}`
          : `patch ${Math.floor(index / side.layout.side)}, ${index % side.layout.side}`
      const text = `tile ${tile} · ${place}: ${said(amount(pickedPatches(side.layout, [pick])))}`
      return el(
        "button",
        { type: "button", title: "undo", onclick: () => this.set({ picks: togglePick(state.picks, pick) }) },
        `${text} ×`,
      )
    })
    const unit = side.question ? side.question.map_unit : ""
    const more = state.picks.length > 6 ? ` (the last 6 of ${state.picks.length} below)` : ""
    this.pickList.replaceChildren(el("div", {}, `together ${said(all)} ${unit}${share}${more}`), ...lines)
  }

  paintLegend(side) {
    const width = 256,
      pen = ((this.legend.width = width), this.legend.getContext("2d"))
    const both = this.state.sign === "both",
      table = colourTable(paletteOf(this.state))
    for (let x = 0; x < width; x++) {
      const value = both ? (2 * x) / (width - 1) - 1 : x / (width - 1)
      const at = 3 * colourIndex(value, both)
      const opacity = Math.abs(value) < this.state.threshold ? 0 : this.state.opacity * Math.abs(value)
      pen.fillStyle = `rgba(${table[at]},${table[at + 1]},${table[at + 2]},${opacity})`
      pen.fillRect(x, 0, 1, 10)
    }
    if (!side.question) return this.ends.replaceChildren()
    const top = said(side.full),
      unit = side.question.map_unit
    const least = both ? `−${top} against` : "0"
    this.ends.replaceChildren(
      el("span", {}, least),
      el("span", {}, `${top} ${unit} per patch${both ? ", for" : ""}`),
      el(
        "span",
        { className: "vx-shown" },
        shownLine(side, this.state).split(";")[0] +
          (side.sums && side.sums.odd ? ` · ${side.sums.odd} patches are not numbers (grey)` : ""),
      ),
    )
  }

  /** The target over the frames of the scene; a hollow point is a frame in which nothing decides. */
  paintCurve() {
    const { bundle, state } = this
    const scene = sceneOf(bundle, state.frame)
    this.curve.hidden = scene.length < 2
    if (this.curve.hidden) return
    const dots = window.devicePixelRatio || 1,
      width = this.curve.clientWidth,
      height = this.curve.clientHeight
    const key = [width, height, dots, state.frame, state.question, state.beside, bundle.frames[state.frame]].join()
    if (!width || key === this.curveKey) return // a look at the map changes no curve
    this.curveKey = key
    Object.assign(this.curve, { width: Math.round(width * dots), height: Math.round(height * dots) })
    const pen = this.curve.getContext("2d"),
      css = getComputedStyle(this.root)
    pen.scale(dots, dots)
    pen.font = "11px system-ui, sans-serif"
    const other = besideOf(bundle, state)
    const asked = [state.question, ...(other && other.question !== state.question ? [other.question] : [])]
    const end = width - (asked.length > 1 ? 62 : 12)
    this.curveBox = [46, end]
    const x = (k) => 46 + ((end - 46) * k) / Math.max(1, scene.length - 1)
    asked.forEach((question, i) =>
      curveLine(
        pen,
        bundle,
        scene,
        question,
        x,
        height,
        css.getPropertyValue(i ? "--vx-second" : "--vx-first"),
        css,
        i,
        width,
      ),
    )
    const at = x(scene.indexOf(state.frame))
    pen.strokeStyle = css.getPropertyValue("--vx-ink")
    pen.lineWidth = 1
    line(pen, at, 2, at, height - 14)
    pen.fillStyle = css.getPropertyValue("--vx-soft")
    pen.textAlign = "left"
    pen.fillText(bundle.frames[scene[0]].name, 46, height - 2)
    pen.textAlign = "right"
    pen.fillText(bundle.frames[scene.at(-1)].name, end, height - 2)
  }

  seek(event) {
    const scene = sceneOf(this.bundle, this.state.frame),
      [a, b] = this.curveBox || [0, 1]
    const share = (event.offsetX - a) / (b - a)
    this.go(scene[Math.max(0, Math.min(scene.length - 1, Math.round(share * (scene.length - 1))))])
  }

  // ---- the pointer

  /** The point of the frame under the pointer, and the side that it is on. */
  under(event) {
    const [x, y, width, height] = this.box
    const u = (event.offsetX - x) / width,
      v = (event.offsetY - y) / height
    if (u < 0 || u >= 1 || v < 0 || v >= 1) return null
    const side = this.sides.length > 1 && u > this.state.split ? this.sides[1] : this.sides[0]
    if (!side.layout) return null
    const [h, w] = side.layout.frame
    return { side, x: u * w, y: v * h, u }
  }

  hover(event) {
    if (this.dragging) {
      const share = (event.offsetX - this.box[0]) / this.box[2]
      return this.set({ split: Math.max(0, Math.min(1, share)) })
    }
    const point = this.under(event)
    if (!point) return this.hideTip()
    const lines = hoverLines(point.side, this.state, point.x, point.y)
    this.tip.replaceChildren(...lines.map((text) => el("div", {}, text)))
    this.tip.classList.add("vx-on")
    const right = event.offsetX > this.stage.clientWidth - 260
    this.tip.style.left = right ? "" : `${event.offsetX + 14}px`
    this.tip.style.right = right ? `${this.stage.clientWidth - event.offsetX + 14}px` : ""
    this.tip.style.top = `${Math.min(event.offsetY + 14, this.stage.clientHeight - 20 * lines.length - 12)}px`
  }

  hideTip() {
    this.tip.classList.remove("vx-on")
  }

  press(event) {
    const divider = this.box[0] + this.state.split * this.box[2]
    if (this.sides.length > 1 && Math.abs(event.offsetX - divider) < 12) {
      this.dragging = true
      return this.canvas.setPointerCapture(event.pointerId)
    }
    const point = this.under(event)
    const place =
      point && placeAt(point.side.layout, point.x, point.y, this.state.thumbnail && point.side.layout.thumbnail)
    if (!place) return
    const kind = this.state.kind
    const picks = togglePick(this.state.picks, [kind, place.tile, kind === "token" ? place.token : place.patch])
    const rows = (point.side.answer && point.side.answer.objects && point.side.answer.objects.rows) || []
    const object = this.state.outlines ? objectsAt(rows, point.x, point.y)[0] : undefined
    if (object) this.set({ picks, object: rows.indexOf(object) }, true)
    else this.set({ picks })
  }

  // ---- export

  link() {
    const base = this.home.address ? this.home.address() : ""
    return `${base}#${writeState(this.state, this.first)}`
  }

  tell(text, copy = true) {
    this.told.hidden = false
    this.told.value = text
    this.told.select()
    if (copy && navigator.clipboard) navigator.clipboard.writeText(text).catch(() => {})
  }

  fileName(ending) {
    const frame = this.bundle.frames[this.state.frame],
      question = this.bundle.questions[this.state.question]
    return (
      [frame && frame.name, question && question.target]
        .filter(Boolean)
        .join("_")
        .replace(/[^\w.-]+/g, "_") + ending
    )
  }

  /** A4's width at 360 dots an inch: 3000 px, with the words below. */
  savePng() {
    const side = this.sides[0],
      [h, w] = side.layout.frame
    const width = 3000,
      height = Math.round((width * h) / w),
      size = 44
    const lines = this.sides.flatMap((s) => [valueLine(s), shownLine(s, this.state), ...noteLines(s)]).filter(Boolean)
    const paper = Object.assign(document.createElement("canvas"), { width, height: height + 60 * lines.length + 30 })
    const pen = paper.getContext("2d")
    pen.fillStyle = "#fff"
    pen.fillRect(0, 0, paper.width, paper.height)
    drawView(
      pen,
      [0, 0, width, height],
      this.sides,
      this.sides.map((s) => this.picture(s.frame)),
      this.state,
    )
    pen.fillStyle = "#000"
    pen.font = `${size}px system-ui, sans-serif`
    lines.forEach((text, i) => pen.fillText(text, 16, height + 60 * (i + 1), width - 32))
    paper.toBlob((blob) => this.save(blob, this.fileName(".png")), "image/png")
  }

  saveSvg() {
    const text = svgOf(this.sides[0], this.state, this.sides[0].frame.picture)
    this.save(new Blob([text], { type: "image/svg+xml" }), this.fileName(".svg"))
  }

  save(blob, name) {
    const link = el("a", { href: URL.createObjectURL(blob), download: name })
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
    this.tell(`saved as ${name}`, false)
  }

  destroy() {
    this.stop()
    clearInterval(this.ticker)
    this.watch.disconnect()
    this.root.replaceChildren()
  }
}

const SVG = "http://www.w3.org/2000/svg"
/** A bar from zero to the contribution, right for positive, and a diamond at the measured effect. */
function amountBar(row, [low, high], part) {
  const at = (value) => 4 + (92 * (value - low)) / (high - low || 1)
  const shape = (name, attributes) => {
    const node = document.createElementNS(SVG, name)
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
    return node
  }
  const picture = shape("svg", { viewBox: "0 0 100 12", class: "vx-bar", "aria-hidden": "true" })
  const value = Number.isFinite(row.contribution) ? row.contribution : 0
  const [from, to] = [Math.min(at(0), at(value)), Math.max(at(0), at(value))]
  const opacity = part ? 0.45 : 1
  picture.append(
    shape("rect", { x: from, y: 2, width: to - from, height: 8, fill: value < 0 ? "#D55E00" : "#0072B2", opacity }),
    shape("line", { x1: at(0), x2: at(0), y1: 0, y2: 12, stroke: "currentColor", "stroke-width": 0.7 }),
  )
  if (Number.isFinite(row.exchanged)) {
    const x = at(row.exchanged)
    const points = `${x - 3.5},6 ${x},2.5 ${x + 3.5},6 ${x},9.5`
    picture.append(shape("polygon", { points, fill: "#000", stroke: "#fff", "stroke-width": 0.8 }))
  }
  return picture
}

function objectWords(row, unit) {
  const names = { for: "for", against: "against", alone: "taken away alone", shapley: "Shapley value", error: "±" }
  return Object.keys(names)
    .filter((key) => typeof row[key] === "number")
    .map((key) => `${names[key]} ${said(row[key])} ${unit}`)
    .join(" · ")
}

/** One target over the scene, on its own axis: the first one's ends are written left, the second's right. */
function curveLine(pen, bundle, scene, question, x, height, colour, css, second, width) {
  const found = scene.map((frame) => bundle.frames[frame].answers.find((a) => a.question === question))
  const values = found.map((a) => (a && Number.isFinite(a.value) ? a.value : null))
  const known = values.filter((v) => v !== null)
  if (!known.length) return
  const least = Math.min(...known),
    most = Math.max(...known),
    span = most - least || 1
  const y = (value) => 8 + (height - 30) * (1 - (value - least) / span)
  pen.strokeStyle = pen.fillStyle = colour
  pen.lineWidth = 1.6
  pen.beginPath()
  let down = false
  values.forEach((value, k) => {
    if (value === null) {
      down = false
      return
    }
    down ? pen.lineTo(x(k), y(value)) : pen.moveTo(x(k), y(value))
    down = true
  })
  pen.stroke()
  values.forEach((value, k) => {
    if (value === null) return
    pen.beginPath()
    pen.arc(x(k), y(value), scene.length > 120 ? 1.2 : 2.6, 0, 2 * Math.PI)
    pen.fillStyle = found[k].stamp ? css.getPropertyValue("--vx-paper") : colour
    pen.fill()
    pen.stroke()
  })
  pen.fillStyle = colour
  pen.textAlign = second ? "left" : "right"
  const at = second ? width - 56 : 42
  pen.fillText(said(most), at, 12)
  pen.fillText(said(least), at, height - 18)
  const { target, unit } = bundle.questions[question]
  pen.textAlign = second ? "right" : "center"
  pen.fillText(`${target}, ${unit}`, second ? x(scene.length - 1) - 60 : width / 2, height - 2)
}

/** Draw a bundle into an element. `home`: hash(), keep(text), address() of a page; ask(question) of a live model. */
export function mount(root, bundle, home = {}) {
  if (!bundle.frames.length) {
    root.classList.add("vx", "vx-empty")
    root.replaceChildren(
      el("p", {}, "there are no frames to show"),
      ...(bundle.notes || []).map((text) => el("p", {}, text)),
    )
    return null
  }
  return new Explorer(root, bundle, home)
}

/** The page's home: the state is the end of the address, where the place that shows the page allows it. */
export function page(root, bundle) {
  const place = globalThis.location
  const keep = (text) => {
    try {
      history.replaceState(null, "", `#${text}`)
    } catch {
      /* a frame without an address */
    }
  }
  const found = mount(root, bundle, { hash: () => place.hash.slice(1), keep, address: () => place.href.split("#")[0] })
  globalThis.addEventListener("hashchange", () => {
    if (found) {
      found.state = readState(place.hash.slice(1), found.first, found.bundle)
      found.rebuild()
    }
  })
  return found
}

// ---------------------------------------------------------------- the widget's home

/** Of anywidget: the bundle is a trait, questions and answers are messages. */
function render({ model, el: place }) {
  const root = document.createElement("div")
  root.className = "vx-widget"
  place.append(root)
  const bundle = JSON.parse(model.get("bundle"))
  if (document.body.dataset.jpThemeLight) {
    const theme = document.body.dataset.jpThemeLight === "false" ? "dark" : "light"
    bundle.start = { theme, ...bundle.start }
  }
  const found = mount(root, bundle, { ask: (question) => model.send({ ask: question }) })
  const heard = (message) => found && message.to === "explorer" && found.answered(message)
  model.on("msg:custom", heard)
  model.send({ hello: true }) // another view may have asked before
  return () => {
    model.off("msg:custom", heard)
    if (found) found.destroy()
  }
}

export default { render }
