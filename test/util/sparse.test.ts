import { assert, describe, it } from "@effect/vitest"
import { SparseMap, SparseSet } from "../../src/util/sparse.ts"

describe("SparseMap", () => {
  it("is a map, also after its last entry was deleted", () => {
    const map = new SparseMap<string, number>()
    assert.deepStrictEqual([map.size, Array.from(map), Array.from(map.keys()), map.get("a")], [0, [], [], undefined])
    for (let round = 0; round < 2; round++) {
      map.set("a", 1)
      map.set("b", 2)
      assert.deepStrictEqual(Array.from(map), [["a", 1], ["b", 2]])
      assert.deepStrictEqual([Array.from(map.keys()), Array.from(map.values())], [["a", "b"], [1, 2]])
      assert.deepStrictEqual([map.has("a"), map.get("b"), map.size], [true, 2, 2])
      assert.deepStrictEqual([map.delete("a"), map.delete("a"), map.delete("b")], [true, false, true])
      assert.deepStrictEqual([map.has("a"), map.size, Array.from(map.values())], [false, 0, []])
    }
    map.set("a", 1)
    map.clear()
    assert.strictEqual(map.size, 0)
  })
})

describe("SparseSet", () => {
  it("is a set, also after its last value was deleted", () => {
    const set = new SparseSet<string>()
    for (let round = 0; round < 2; round++) {
      assert.deepStrictEqual([set.size, set.has("a"), Array.from(set)], [0, false, []])
      set.add("a")
      set.add("a")
      assert.deepStrictEqual([set.size, set.has("a"), Array.from(set)], [1, true, ["a"]])
      assert.deepStrictEqual([set.delete("a"), set.delete("a")], [true, false])
    }
    set.add("a")
    set.clear()
    assert.strictEqual(set.size, 0)
  })
})
