import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { parseMembers, parseNestedMembers, renderMembers, rewriteMembers } from "../../src/util/rawJson.ts"

const texts = Arbitrary.schema(Schema.Array(Schema.String))

describe("JSON members as text", () => {
  it.prop("of any object are the texts of its values", {
    names: texts,
    values: texts,
    indent: Schema.Literals([0, 1, 4])
  }, ({ indent, names, values }) => {
    const tricky = ["\\", "\"", "\\\"", "{[", "]}", ",:", "\\u0022", "__proto__"]
    const entries = new Map(
      [...names, ...tricky].map((
        name,
        index
      ) => [name, [[...values, ""][index % (values.length + 1)], { [name]: index / 7 }, null]])
    )
    const text = JSON.stringify(
      Object.defineProperties(
        {},
        Object.fromEntries(Array.from(entries, ([name, value]) => [`_${name}`, { value, enumerable: true }]))
      ),
      null,
      indent
    )
    const members = parseMembers(text)
    assert.strictEqual(members?.size, entries.size)
    for (const [name, value] of entries) assert.deepStrictEqual(JSON.parse(members?.get(`_${name}`) ?? ""), value)
    const rendered = renderMembers(members ?? [])
    assert.deepStrictEqual(parseMembers(rendered), members)
    assert.strictEqual(rewriteMembers(members ?? new Map(), text), text)
  })

  it.each(["", " ", "null", "1", "\"x\"", "[]", "{", "{\"a\"}", "{\"a\":1,}", "{} {}", "{\"a\": 01}", "\ufeff{}"])(
    "%j is not an object",
    (text) => {
      assert.isUndefined(parseMembers(text))
    }
  )

  it("an object without members, and white space everywhere", () => {
    assert.strictEqual(parseMembers("{}")?.size, 0)
    assert.strictEqual(parseMembers(" { } ")?.size, 0)
    assert.deepStrictEqual(Array.from(parseMembers("\n{\t\"a\" :\r1 ,\"b\": [ 1 , 2 ] \n}") ?? []), [["a", "1"], [
      "b",
      "[ 1 , 2 ]"
    ]])
  })

  it("an object in an object is read apart; of several of its name the last counts", () => {
    for (
      const text of [
        "{\"a\": 1, \"in\": { \"b\" : {\"in\": [2]} , \"c\": 3.0 }, \"d\": {\"in\": 4} }",
        "{\"in\": {\"e\": 5}, \"a\": 1, \"d\": {\"in\": 4}, \"in\" : \n{\"b\": {\"in\": [2]},\"c\": 3.0}}",
        " {\"a\": 1, \"\\u0069n\": {\"b\": {\"in\": [2]}, \"c\": 3.0}, \"d\": {\"in\": 4}}"
      ]
    ) {
      const read = parseNestedMembers(text, "in")
      assert.deepStrictEqual(Array.from(read?.members ?? []), [["a", "1"], ["d", "{\"in\": 4}"]], text)
      assert.deepStrictEqual(Array.from(read?.nested ?? []), [["b", "{\"in\": [2]}"], ["c", "3.0"]], text)
    }
    assert.strictEqual(parseNestedMembers("{\"in\": {}}", "in")?.nested.size, 0)
  })

  it.each(["", "[]", "{}", "{\"a\": {}}", "{\"in\": 1}", "{\"in\": {}, \"in\": null}", "{\"in\": {}", "{\"in\": {]}"])(
    "%j holds no such object",
    (text) => {
      assert.isUndefined(parseNestedMembers(text, "in"))
    }
  )
})
