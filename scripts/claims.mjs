/**
 * Checks a page whose claims name the tests that show them, such as docs/security.md.
 *
 * A test is named by a link into test/ whose text is its title: `[shows no value when it is printed][model/Credential]`, with the
 * file in the definition of the label. A title within a describe may be written `describe > title`.
 *
 * A title is the first text of a call or of an array, as in `it("title", …)` and `it.each([["title", …]])`. It is named letter for
 * letter, as the test's file has it, but for backticks. In place of `${…}`, which only the run of the test knows, the page has `…`.
 */
import path from "node:path"

const withoutBackticks = (text) => text.replaceAll("`", "")

/** The titles that a test's file holds. What stands in a comment is none. */
const titlesIn = (source) => {
  const code = source.replace(/^\s*(?:\/\/|\/?\*).*$/gm, "")
  const texts = code.matchAll(/[([]\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1\s*,/g)
  return new Set(
    Array.from(texts, ([, , text]) => withoutBackticks(text.replace(/\$\{[^}]*\}/g, "…").replace(/\\(.)/g, "$1")))
  )
}

/** The lines of a page, those of one list item or paragraph as one, without its code blocks; each with its section and its number. */
const partsOf = (text) => {
  const parts = []
  let section = ""
  let isCode = false
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode
    if (isCode) continue
    const last = parts.at(-1)
    if (/^#+ /.test(line)) section = line.replace(/^#+ /, "").trim()
    else if (/^\s+\S/.test(line) && last?.kind === "item" && !/^\s*[-*] /.test(line)) last.text += ` ${line.trim()}`
    else {
      const kind = /^\s*[-*] /.test(line) ? "item" : /^\s*\|/.test(line) ? "row" : "other"
      parts.push({ kind, line: index + 1, section, text: line })
    }
  }
  return parts
}

const isRule = (part) => part?.kind === "row" && /^\s*\|[\s|:-]+$/.test(part.text)

/** List items, and rows of tables, without their heads and rules. */
const claimsOf = (parts) =>
  parts.filter((part, index) =>
    part.kind === "item" || (part.kind === "row" && !isRule(part) && !isRule(parts[index + 1]))
  )

/**
 * What is wrong with a page: `{ line, message }` for each fault. `sourceOf` answers the text of a file of the repository, or
 * undefined where there is none. In the sections that are `exempt` an item or row need not name a test.
 */
export const claimFaults = ({ exempt, page, sourceOf, text }) => {
  const faults = []
  const parts = partsOf(text)
  const labels = new Map(Array.from(text.matchAll(/^\[([^\]]+)\]:\s+(\S+)/gm), ([, label, target]) => [label, target]))
  const titles = new Map()
  const isNamed = (file, title) => {
    if (!titles.has(file)) titles.set(file, titlesIn(sourceOf(file) ?? ""))
    return titles.get(file).has(withoutBackticks(title))
  }
  let tests = 0
  const testsIn = new Map()
  for (const part of parts) {
    let named = 0
    for (const [, title, label, inline] of part.text.matchAll(/\[([^[\]]+)\](?:\[([^[\]]+)\]|\(([^()\s]+)\))/g)) {
      const target = inline ?? labels.get(label)
      if (target === undefined) {
        faults.push({ line: part.line, message: `no file is given for [${label}]` })
        continue
      }
      const file = path.posix.join(path.posix.dirname(page), target)
      if (!file.startsWith("test/")) continue
      named++
      const missing = sourceOf(file) === undefined
        ? [`there is no ${file}`]
        : title.split(" > ").filter((each) => !isNamed(file, each)).map((each) => `${file} has no test "${each}"`)
      for (const message of missing) faults.push({ line: part.line, message })
    }
    tests += named
    testsIn.set(part, named)
  }
  const claims = claimsOf(parts).filter(({ section }) => !exempt.includes(section))
  for (const claim of claims) {
    if (testsIn.get(claim) === 0) faults.push({ line: claim.line, message: "this claim names no test that shows it" })
  }
  return { claims: claims.length, faults, tests }
}
