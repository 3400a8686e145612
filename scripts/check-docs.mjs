/**
 * Checks what the documentation shows: every TypeScript block in README.md, docs and the doc comments of src compiles, every
 * relative link leads somewhere, every page under docs that a doc comment names exists, and every claim of docs/security.md names
 * tests that exist (claims.mjs).
 *
 * A block that is not meant to compile is opened with "```ts no-check".
 */
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import path from "node:path"
import { claimFaults } from "./claims.mjs"

const root = path.resolve(import.meta.dirname, "..")
const workspace = path.join(root, ".docs-check")

const read = (file) => readFileSync(path.join(root, file), "utf8")

const filesUnder = (folder, extension) =>
  existsSync(path.join(root, folder))
    ? readdirSync(path.join(root, folder), { recursive: true })
      .map((name) => path.posix.join(folder, name.replaceAll(path.sep, "/")))
      .filter((file) => file.endsWith(extension))
      .toSorted()
    : []

const pages = [
  "README.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "src/README.md",
  ...filesUnder("docs", ".md")
].filter((
  file
) => existsSync(path.join(root, file)))
const sources = filesUnder("src", ".ts")

const faults = []
const fault = (file, line, message) => faults.push(`${file}:${line}: ${message}`)

// ---------------------------------------------------------------------------------------------------------------------
// Reading: a page is a list of numbered lines; so is what the doc comments of a source file say.
// ---------------------------------------------------------------------------------------------------------------------

const linesOf = (file) => read(file).split(/\r?\n/).map((text, index) => ({ text, number: index + 1 }))

/** The doc comments of a source file, each a list of lines without the leading asterisk. */
const docCommentsOf = (file) => {
  const comments = []
  let comment
  for (const { text, number } of linesOf(file)) {
    if (comment === undefined && /^\s*\/\*\*/.test(text)) comment = []
    if (comment === undefined) continue
    const end = text.indexOf("*/")
    comment.push({
      text: (end === -1 ? text : text.slice(0, end)).replace(/^\s*\/\*\*\s?/, "").replace(/^\s*\*( |$)/, ""),
      number
    })
    if (end !== -1) {
      comments.push(comment)
      comment = undefined
    }
  }
  return comments
}

/** Splits lines into fenced blocks and the prose around them. */
const splitFences = (file, lines) => {
  const blocks = []
  const prose = []
  let block
  for (const line of lines) {
    if (block === undefined) {
      const open = /^(\s*)(`{3,}|~{3,})\s*([^\s`]*)\s*([^`]*)$/.exec(line.text)
      if (open === null) {
        prose.push(line)
      } else {
        const [, indent, fence, language, info] = open
        block = { file, line: line.number, indent: indent.length, fence, language, info: info.split(/\s+/), code: [] }
      }
    } else if (new RegExp(`^\\s*${block.fence[0]}{${block.fence.length},}\\s*$`).test(line.text)) {
      blocks.push(block)
      block = undefined
    } else {
      const indentation = /^\s*/.exec(line.text)[0].length
      block.code.push({ text: line.text.slice(Math.min(block.indent, indentation)), number: line.number })
    }
  }
  if (block !== undefined) fault(file, block.line, "the code block that begins here is never closed")
  return { blocks, prose }
}

const pageParts = new Map(pages.map((file) => [file, splitFences(file, linesOf(file))]))
const sourceParts = sources.flatMap((file) =>
  docCommentsOf(file).map((comment) => ({ file, ...splitFences(file, comment) }))
)

// ---------------------------------------------------------------------------------------------------------------------
// Code blocks: one file per block, each line at the line number it has in the documentation, all in one run of tsc.
// ---------------------------------------------------------------------------------------------------------------------

const checkBlocks = () => {
  const typescript = [...pageParts.values(), ...sourceParts]
    .flatMap(({ blocks }) => blocks)
    .filter(({ language }) => language === "ts" || language === "typescript")
  const checked = typescript.filter(({ info }) => !info.includes("no-check"))
  const skipped = typescript.length - checked.length

  rmSync(workspace, { recursive: true, force: true })
  mkdirSync(workspace)
  const origin = new Map()
  for (const { code, file, line } of checked) {
    const name = `${file.replaceAll("/", "__")}-L${line}.ts`
    const text = []
    for (const { number, text: codeLine } of code) text[number - 1] = codeLine
    writeFileSync(path.join(workspace, name), Array.from(text, (codeLine) => codeLine ?? "").join("\n"))
    origin.set(name, file)
  }
  if (origin.size > 0) {
    writeFileSync(
      path.join(workspace, "tsconfig.json"),
      JSON.stringify({
        extends: "../tsconfig.json",
        compilerOptions: { noEmit: true, noUnusedLocals: false, noUnusedParameters: false },
        files: [...origin.keys()],
        include: []
      })
    )
    const tsc = spawnSync(
      process.execPath,
      [path.join(root, "node_modules/typescript/bin/tsc"), "--pretty", "false", "-p", workspace],
      { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 }
    )
    if (tsc.error !== undefined) throw tsc.error
    const elsewhere = []
    let inBlock = false
    let found = false
    for (const text of `${tsc.stdout}${tsc.stderr}`.split(/\r?\n/)) {
      const at = /^(.+?)\((\d+),\d+\): (error TS\d+: .*)$/.exec(text)
      if (at !== null) {
        const file = origin.get(path.basename(at[1]))
        inBlock = file !== undefined
        found = true
        if (inBlock) fault(file, at[2], at[3])
        else elsewhere.push(text)
      } else if (inBlock && /^\s+\S/.test(text)) {
        faults[faults.length - 1] += `\n${text}`
      } else if (text.startsWith("error ")) {
        elsewhere.push(text)
        found = true
      }
    }
    if (elsewhere.length > 0) {
      faults.push(
        `${elsewhere.length} errors outside the examples, in what they import (npm run check:types shows all):\n  ${
          elsewhere[0]
        }`
      )
    }
    if (tsc.status !== 0 && !found) faults.push(`tsc ended with status ${tsc.status}:\n${tsc.stdout}${tsc.stderr}`)
  }
  rmSync(workspace, { recursive: true, force: true })
  return { checked: checked.length, skipped }
}

// ---------------------------------------------------------------------------------------------------------------------
// Links
// ---------------------------------------------------------------------------------------------------------------------

/** The anchors of a page, as GitHub makes them from headings, and those written as HTML. */
const anchorsOf = (file) => {
  const parts = pageParts.get(file) ?? splitFences(file, linesOf(file))
  const anchors = new Set()
  for (const { text } of parts.prose) {
    for (const [, id] of text.matchAll(/<[^>]+\s(?:id|name)="([^"]+)"/g)) anchors.add(id)
    const heading = /^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$/.exec(text)
    if (heading === null) continue
    const slug = heading[1]
      .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, "")
      .replaceAll(" ", "-")
    let unique = slug
    for (let count = 1; anchors.has(unique); count++) unique = `${slug}-${count}`
    anchors.add(unique)
  }
  return anchors
}

const checkLink = (file, line, target) => {
  if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(target)) return
  const [location, anchor] = target.split("#", 2)
  const linked = location === "" ? file : path.posix.join(path.posix.dirname(file), decodeURIComponent(location))
  if (linked.startsWith("../") || linked.startsWith("/")) {
    fault(file, line, `the link ${target} leaves the repository`)
  } else if (!existsSync(path.join(root, linked))) {
    fault(file, line, `the link ${target} leads nowhere: there is no ${linked}`)
  } else if (
    anchor !== undefined && linked.endsWith(".md") && statSync(path.join(root, linked)).isFile() &&
    !anchorsOf(linked).has(decodeURIComponent(anchor))
  ) {
    fault(file, line, `the link ${target} leads nowhere: ${linked} has no heading #${anchor}`)
  }
}

const checkLinks = () => {
  let count = 0
  for (const [file, { prose }] of pageParts) {
    for (const { number, text } of prose) {
      const withoutCode = text.replace(/(`+)(?!`).*?[^`]\1(?!`)/g, "")
      const targets = [
        ...withoutCode.matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g),
        ...withoutCode.matchAll(/^\s*\[[^\]]+\]:\s+<?([^\s>]+)/g),
        ...withoutCode.matchAll(/\s(?:href|src)="([^"]+)"/g)
      ]
      for (const [, target] of targets) {
        count++
        checkLink(file, number, target)
      }
    }
  }
  for (const { file, prose } of sourceParts) {
    for (const { number, text } of prose) {
      for (const [page] of text.matchAll(/\bdocs\/[\w./-]+\.md\b/g)) {
        count++
        if (!existsSync(path.join(root, page))) {
          fault(file, number, `the doc comment names ${page}, which does not exist`)
        }
      }
    }
  }
  return count
}

// ---------------------------------------------------------------------------------------------------------------------
// Claims
// ---------------------------------------------------------------------------------------------------------------------

/** The page whose claims name tests, and its sections that promise nothing by themselves. */
const claiming = "docs/security.md"
const exempt = ["What it does not protect from", "Recommendations", "Reporting"]

const checkClaims = () => {
  const sourceOf = (file) => existsSync(path.join(root, file)) ? read(file) : undefined
  const { claims, faults, tests } = claimFaults({ exempt, page: claiming, sourceOf, text: read(claiming) })
  for (const { line, message } of faults) fault(claiming, line, message)
  return { claims, tests }
}

const { checked, skipped } = checkBlocks()
const links = checkLinks()
const { claims, tests } = checkClaims()

for (const text of faults) console.error(text)
console.log(
  `${checked} TypeScript blocks compiled (${skipped} marked no-check), ${links} links followed` +
    ` in ${pages.length} pages and ${sources.length} source files, ${claims} claims with ${tests} named tests: ${
      faults.length === 0 ? "all good" : `${faults.length} faults`
    }`
)
process.exitCode = faults.length === 0 ? 0 : 1
