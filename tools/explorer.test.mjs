// The explorer's own tests: `node --test tools/`, or `python tools/explorer_test.py`, which is part of `make test`.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import test from "node:test"
import * as x from "../experiment/data/explorer/explorer.mjs"

const layout = { frame: [168, 336], crop: [0, 0, 336, 168], grid: [1, 2], side: 12, tiles: 2, token_patches: null }
const small = {
  frame: [20, 40],
  crop: [0, 0, 40, 20],
  grid: [1, 2],
  side: 2,
  tiles: 3,
  thumbnail: true,
  token_patches: null,
}
const state = (change = {}) => ({ ...x.FIRST, ...change })

/** A bundle of two runs with two frames each and two questions, whose maps are 3 tiles of 2 × 2 patches. */
function bundle() {
  const bits = (numbers) => Buffer.from(Uint16Array.from(numbers).buffer).toString("base64")
  const map = bits([0x3c00, 0xbc00, 0x3800, 0, 0, 0, 0, 0, 0x3400, 0, 0, 0]) // 1 −1 ½ 0 · 0 0 0 0 · ¼ 0 0 0
  const frame = (name, run) => ({
    name,
    run,
    scene: 0,
    layout: 0,
    picture: null,
    words: [],
    positions: [[10, 3]],
    route: [],
    speed: [],
    answers: [0, 1].map((question) => ({ question, value: question, map, peak: 2, words: [question], notes: [] })),
  })
  const question = (target, full) => ({
    target,
    method: "centred",
    unit: "m/s",
    map_unit: "m/s",
    sign: "for",
    signed: true,
    full,
    floor: 0.25,
  })
  return {
    source: "run",
    questions: [question("lateral", 1), question("max", 3)],
    layouts: [small],
    scenes: ["a"],
    runs: ["before", "after"],
    frames: [frame("1", 0), frame("2", 0), frame("1", 1), frame("2", 1)],
    notes: [],
    start: {},
  }
}

test("half precision: by hand, and all 65536 against their neighbours", () => {
  const known = {
    0x0000: 0,
    0x3c00: 1,
    0xbc00: -1,
    0x3555: 0.333251953125,
    0x7bff: 65504,
    0x0001: 2 ** -24,
    0x0400: 2 ** -14,
    0x7c00: Infinity,
  }
  for (const [bits, value] of Object.entries(known)) assert.equal(x.halfToNumber(Number(bits)), value)
  assert.ok(Number.isNaN(x.halfToNumber(0x7e00)))
  for (let i = 1; i < 0x7c00; i++) assert.ok(x.halfToNumber(i) > x.halfToNumber(i - 1))
})

test("a map comes back in its unit", () => {
  assert.deepEqual([...x.decodeMap("AAAAvAA4ADw=", 2)], [0, -2, 1, 2])
})

test("the part that is shown, and what it sums to", () => {
  assert.deepEqual(
    ["for", "against", "both"].map((sign) => x.part(-3, sign)),
    [0, 3, -3],
  )
  assert.deepEqual(x.summary([1, -4, 2, NaN], "for"), { shown: 3, for: 3, against: 4, largest: 2, odd: 1 })
  assert.deepEqual(x.summary([1, -4, 2], "against").shown, 4)
  assert.deepEqual(x.summary([1, -4, 2], "both").largest, 4)
})

test("full colour: of the run, of the frame but not below the floor, as given", () => {
  const question = { full: 3, floor: 0.25 }
  assert.equal(x.fullColour(state(), question, 1), 3)
  assert.equal(x.fullColour(state({ scale: "frame" }), question, 1), 1)
  assert.equal(x.fullColour(state({ scale: "frame" }), question, 0.1), 0.25)
  assert.equal(x.fullColour(state({ scale: "value", full: 7 }), question, 1), 7)
})

test("colours: both ends of matplotlib's plasma; opacity grows with the amount; threshold and no numbers", () => {
  const table = x.colourTable("plasma")
  assert.deepEqual([...table.slice(0, 3)], [0x0d, 0x08, 0x87])
  assert.deepEqual([...table.slice(-3)], [0xf0, 0xf9, 0x21])
  const pixels = x.shade([4, 2, 0.5, -1, NaN, 0], 4, state({ threshold: 0.2, opacity: 0.5 }))
  assert.deepEqual(
    [3, 7, 11, 15, 19, 23].map((i) => pixels[i]),
    [128, 64, 0, 0, 230, 0],
  )
  assert.deepEqual([...pixels.slice(0, 3)], [0xf0, 0xf9, 0x21])
  const [red, , blue] = x.shade([4], 4, state({ sign: "both" })),
    against = x.shade([-4], 4, state({ sign: "both" }))
  assert.ok(red > blue && against[2] > against[0])
})

test("every point of the frame has its patch, every patch its box, there and back", () => {
  for (let tile = 0; tile < 2; tile++) {
    for (let patch = 0; patch < 144; patch++) {
      const [left, top, width, height] = x.patchBox(layout, tile, patch)
      const found = x.placeAt(layout, left + width / 2, top + height / 2)
      assert.deepEqual([found.tile, found.patch], [tile, patch])
      assert.ok(x.patchesOf(layout, found.token).includes(patch))
      assert.deepEqual(x.placeAt(layout, left, top), found) // edges belong to the right and lower cell
    }
  }
  assert.equal(x.placeAt(layout, 336, 5), null)
  assert.deepEqual(x.patchesOf(layout, 7), [26, 27, 38, 39])
})

test("tiles lie in the image as the layout says, the thumbnail apart", () => {
  const values = Float32Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  assert.deepEqual([...x.asGrid(values, small, false).values], [0, 1, 4, 5, 2, 3, 6, 7])
  assert.deepEqual([...x.asGrid(values, small, true).values], [8, 9, 10, 11])
  assert.equal(x.placeAt(small, 39, 1, true).tile, 2)
  assert.deepEqual(x.patchBox(small, 2, 3), [20, 10, 20, 10])
})

test("a model's own wiring of tokens is used", () => {
  const own = {
    ...layout,
    token_patches: [
      [143, 142, 131, 130],
      [0, 1, 12, 13],
    ],
  }
  assert.equal(x.tokenOf(own, 13), 1)
  assert.deepEqual(x.patchesOf(own, 0), [143, 142, 131, 130])
  assert.equal(
    x.positionOf(
      [
        [5, 36],
        [80, 36],
      ],
      36,
      1,
      3,
    ),
    83,
  )
  assert.equal(x.positionOf(null, 36, 0, 0), null)
})

test("objects under a point: outline before box, smaller before larger", () => {
  const rows = [
    { name: "large", box: [0, 0, 10, 10], outline: [] },
    {
      name: "corner",
      box: [0, 0, 8, 8],
      outline: [
        [
          [0, 0],
          [8, 0],
          [0, 8],
        ],
      ],
    },
  ]
  assert.deepEqual(
    x.objectsAt(rows, 1, 1).map((row) => row.name),
    ["corner", "large"],
  )
  assert.deepEqual(
    x.objectsAt(rows, 7, 7).map((row) => row.name),
    ["large"],
  )
  assert.deepEqual(x.objectsAt(rows, 11, 1), [])
})

test("an object's label: number, name, change of the quantity; a found region has its own number", () => {
  const speed = { target: "-forward_speed", unit: "m/s" }
  assert.equal(x.objectLabel({ name: "car", alone: 9, shapley: 3.21 }, 0, speed, 1), "1 car −3.2 m/s")
  assert.equal(x.objectLabel({ name: "region 7", alone: -0.5, shapley: null }, 2, speed, 1), "region 7 +0.5 m/s")
  assert.equal(x.objectLabel({ name: "x".repeat(40) }, 1, { target: "lateral", unit: "m" }, 1).length, 26)
  assert.equal(x.effectOf({ alone: 2 }, "lateral"), 2)
  assert.deepEqual([x.decimalsOf([0.53, -0.004]), x.decimalsOf([12.3]), x.decimalsOf([NaN, 0])], [2, 0, 1])
  assert.deepEqual([x.signed(-0.004, 2), x.signed(-0.53, 2), x.signed(undefined, 2)], ["0.00", "−0.53", "–"])
})

test("labels lie in the frame, none over another, and over no small object while there is room", () => {
  const boxes = [
    [0, 0, 10, 10],
    [5, 5, 15, 15],
    [90, 90, 100, 100],
  ]
  const sizes = boxes.map(() => [40, 12])
  const found = x.placeLabels(boxes, sizes, [100, 100])
  const apart = (a, b) => a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]
  found.forEach(([a, b, c, d], i) => {
    assert.ok(a >= 0 && b >= 0 && c <= 100 && d <= 100)
    assert.ok(boxes.every((box) => apart(box, found[i])))
    assert.ok(found.every((other, k) => k === i || apart(other, found[i])))
  })
  assert.deepEqual(x.placeLabels(boxes, [[120, 12], ...sizes.slice(1)], [100, 100])[0], null)
})

test("of many words the strongest twelve are listed in their order, and the others counted", () => {
  const words = Array.from({ length: 20 }, (_, i) => ({ kind: "word", contribution: i, exchanged: 0 }))
  const [listed, left] = x.listedSources([{ kind: "image", contribution: 0 }, ...words])
  assert.equal(left, 8)
  assert.deepEqual(
    listed.map((row) => row.contribution),
    [0, ...Array.from({ length: 12 }, (_, i) => i + 8)],
  )
})

test("an SVG outlines objects with their labels, escaped", () => {
  const given = bundle()
  given.frames[0].answers[0].objects = { rows: [{ name: "<b>car</b>", box: [0, 0, 20, 20], outline: [], alone: 1 }] }
  given.layouts[0].frame = [200, 400]
  const [side] = x.sidesOf(given, x.firstState(given))
  const text = x.svgOf(side, { ...x.FIRST, outlines: true }, "")
  assert.ok(text.includes("1 &lt;b&gt;car&lt;/b&gt; +1.0 m/s") && !text.includes("<b>"), text)
  assert.equal(text.match(/<polygon /g).length, 2)
  assert.ok(!x.svgOf(side, { ...x.FIRST, outlines: false }, "").includes("<polygon"))
})

test("a pick, and the same again; tokens and patches are counted once", () => {
  const one = x.togglePick([], ["token", 1, 7])
  assert.deepEqual(x.togglePick(one, ["token", 1, 7]), [])
  assert.equal(x.pickedPatches(layout, x.togglePick(one, ["patch", 1, 26])).length, 4)
  assert.equal(x.pickedPatches(layout, x.togglePick(one, ["patch", 0, 26])).length, 5)
})

test("a state as a link, there and back; nonsense in a link changes nothing", () => {
  const given = bundle(),
    first = x.firstState(given)
  const other = {
    ...first,
    frame: 3,
    sign: "both",
    threshold: 0.25,
    picks: [["patch", 0, 1]],
    beside: "q1",
    smooth: true,
  }
  assert.deepEqual(x.readState(x.writeState(other, first), first, given), other)
  assert.equal(x.writeState(first, first), "")
  const odd =
    'picks=[["patch",9,0],["x",0,0],3]&frame=99&question=-1&threshold=7&sign=%22x%22&palette=3&picks=5&nothing=1&opacity=%7B&full=%22a%22&__proto__=1'
  assert.deepEqual(x.readState(odd, first, given), first)
})

test("the line of Python names what is shown, and its text stays text", () => {
  const given = bundle()
  given.frames[1].name = 'a"b'
  const line = x.pythonLine(given, { ...x.firstState(given), frame: 1, threshold: 0.5 })
  assert.equal(line, 'explore("run", frame="a\\"b", target="lateral", method="centred", threshold=0.5)')
})

test("beside: another map, another frame, the frame of that name in another run; one scale for one unit", () => {
  const given = bundle(),
    first = x.firstState(given)
  assert.equal(x.besideOf(given, first), null)
  assert.deepEqual(x.besideOf(given, { ...first, beside: "q1" }), { frame: 0, question: 1 })
  assert.deepEqual(x.besideOf(given, { ...first, beside: "f3" }), { frame: 3, question: 0 })
  assert.deepEqual(x.besideOf(given, { ...first, frame: 1, beside: "r1" }), { frame: 3, question: 0 })
  assert.deepEqual(
    x.sidesOf(given, { ...first, beside: "q1" }).map((side) => side.full),
    [3, 3],
  )
  given.questions[1].map_unit = "m"
  assert.deepEqual(
    x.sidesOf(given, { ...first, beside: "q1" }).map((side) => side.full),
    [1, 3],
  )
  given.frames.pop()
  assert.match(x.noteLines(x.sidesOf(given, { ...first, frame: 1, beside: "r1" })[1])[0], /no frame of this name/)
})

test("playing stays in a scene and a run", () => {
  assert.deepEqual(x.sceneOf(bundle(), 2), [2, 3])
})

test("hovering tells value, unit, tile, patch, token, position and object", () => {
  const given = bundle()
  given.frames[0].answers[0].objects = { rows: [{ name: "<b>car</b>", box: [0, 0, 20, 20], outline: [] }] }
  const [side] = x.sidesOf(given, x.firstState(given))
  const lines = x.hoverLines(side, x.FIRST, 11, 1)
  assert.deepEqual(lines, [
    "−2 m/s per patch",
    "tile 0 · patch 0, 1",
    "image token 0 at position 10",
    "object: <b>car</b>",
  ])
  assert.match(x.hoverLines(side, x.FIRST, 50, 1)[0], /outside/)
})

test("what is said of a map, with a map that is no number", () => {
  const given = bundle()
  given.frames[0].answers[0].map = Buffer.from(Uint16Array.from([0x7e00, ...Array(11).fill(0)]).buffer).toString(
    "base64",
  )
  const [side] = x.sidesOf(given, x.firstState(given))
  assert.match(x.shownLine(side, x.FIRST), /1 of 12 patches are not numbers/)
  assert.equal(x.valueLine(side), "lateral = 0 m/s")
  assert.deepEqual(
    [said(0.1234567), said(-2e-9), said(NaN), said(123456)],
    ["0.123", "−2.00e-9", "not a number", "1.23e+5"],
  )
  function said(value) {
    return x.said(value)
  }
})

test("an SVG has a rectangle a patch that is shown, and words are escaped", () => {
  const given = bundle()
  given.questions[0].target = "<script>"
  const [side] = x.sidesOf(given, x.firstState(given))
  const text = x.svgOf(side, x.FIRST, 'data:image/jpeg;base64,"')
  assert.equal(text.match(/<rect /g).length, 2) // 1 and ½ of the tiles; the thumbnail's is apart
  assert.ok(text.includes("&lt;script&gt;") && !text.includes("<script>") && text.includes('base64,&quot;"'))
})

test("nothing in the module writes HTML or asks the network", () => {
  const source = readFileSync(new URL("../experiment/data/explorer/explorer.mjs", import.meta.url), "utf8")
  for (const word of [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "fetch(",
    "XMLHttpRequest",
    "import(",
  ]) {
    assert.ok(!source.includes(word), word)
  }
})
