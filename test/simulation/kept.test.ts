import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { holding, knownFailures } from "./kept.ts"
import { run } from "./Simulator.ts"

describe("programs of the wide profile", () => {
  for (const { name, program } of holding) {
    it.live(name, () => Effect.map(run(program), ({ violation }) => assert.isUndefined(violation)))
  }

  for (const { name, program, rule } of knownFailures) {
    it.live(`does not hold yet: ${name}`, () =>
      Effect.map(run(program), ({ violation }) => {
        assert.isDefined(violation, "It holds now: move the program to `holding` in kept.ts.")
        assert.strictEqual(violation.rule, rule)
      }))
  }

  it("break each rule that only they are checked by", () => {
    const source = readFileSync(new URL("Invariants.ts", import.meta.url), "utf8")
    const named = new Set(Array.from(source.matchAll(/\.violate\(\s*"([^"]+)"/g), ([, rule]) => rule ?? ""))
    const broken = new Set([...holding, ...knownFailures].map(({ rule }) => rule))
    assert.deepStrictEqual(Array.from(named).filter((rule) => !broken.has(rule)), [])
    assert.isAbove(named.size, 10)
  })

  it.live("take the same course each time", () =>
    Effect.forEach(holding.slice(0, 3), ({ program }) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* run(program, { isTraced: true }), yield* run(program, { isTraced: true }))
      }), { discard: true }))
})
