/** The check that every claim of a page names tests that exist, by which `npm run check:docs` judges docs/security.md. */
import { assert, describe, it } from "@effect/vitest"
import { claimFaults } from "../scripts/claims.mjs"

const files: Readonly<Record<string, string>> = {
  "test/a.test.ts": `
    describe("a house", () => {
      it("has a \\"front\\" door", () => {})
      // it("has a back door", () => {})
      it.each([["of wood", 1], ["of stone", 2]])("stands, %s", () => {})
      it.effect(
        \`is built \${times} times\`,
        () => Effect.void
      )
      assert.include(text, "has a chimney")
    })`
}

const faultsOf = (text: string) =>
  claimFaults({
    exempt: ["What it does not promise"],
    page: "docs/page.md",
    sourceOf: (file) => files[file],
    text: `# Page\n\n${text}\n\n[a]: ../test/a.test.ts\n[b]: ../test/b.test.ts\n`
  }).faults.map(({ line, message }) => `${line}: ${message}`)

const table = (row: string) => `| what | rule | shown by |\n| ---- | ---- | -------- |\n${row}`

describe("a claim that names a test", () => {
  it.each([
    ["by its title", "- It opens. [has a \"front\" door][a]"],
    ["by a link of its own", "- It opens. [has a \"front\" door](../test/a.test.ts)"],
    ["by its describe", "- It opens. [a house][a]"],
    ["by describe and title", "- It stands. [a house > stands, %s][a]"],
    ["with a part as code", "- It opens. [has a `\"front\"` door][a]"],
    ["by one of many cases", "- It is of stone. [of stone][a]"],
    ["by what a template does not build", "- It is built. [is built … times][a]"],
    ["on a line below", "- It opens,\n  if it has to.\n  [a house][a]"],
    ["in a table", table("| door | opens | [a house][a] |")]
  ])("%s is good", (_, text) => assert.deepStrictEqual(faultsOf(text), []))

  it.each([
    ["misspelt", "- It opens. [has a front door][a]", "3: test/a.test.ts has no test \"has a front door\""],
    ["only begun", "- It opens. [has a][a]", "3: test/a.test.ts has no test \"has a\""],
    ["commented out", "- It opens. [has a back door][a]", "3: test/a.test.ts has no test \"has a back door\""],
    ["that is another text", "- It smokes. [has a chimney][a]", "3: test/a.test.ts has no test \"has a chimney\""],
    ["of another describe", "- It opens. [a hut > stands, %s][a]", "3: test/a.test.ts has no test \"a hut\""],
    ["of a file that is gone", "- It opens. [a house][b]", "3: there is no test/b.test.ts"],
    ["of no file", "- It opens. [a house][a], [a hut][c]", "3: no file is given for [c]"],
    ["in prose", "It opens.\n\nSee [a hut][a].", "5: test/a.test.ts has no test \"a hut\""]
  ])("%s is a fault", (_, text, fault) => assert.deepStrictEqual(faultsOf(text), [fault]))
})

describe("a claim that names no test", () => {
  it.each([
    ["in a list", "- It opens. [a house][a]\n- It stands.", "4: this claim names no test that shows it"],
    ["in a table", table("| door | opens | |"), "5: this claim names no test that shows it"],
    ["with a link elsewhere", "- It [opens](doors.md).", "3: this claim names no test that shows it"]
  ])("%s is a fault", (_, text, fault) => assert.deepStrictEqual(faultsOf(text), [fault]))

  it("is none where nothing is promised", () => {
    assert.deepStrictEqual(faultsOf("## What it does not promise\n\n- It does not fly."), [])
    assert.lengthOf(faultsOf("## What it does not promise\n\n- It does not fly. [a hut][a]"), 1)
  })
})
