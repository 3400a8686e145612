/**
 * Checks that everything a user can import is documented: each declaration that the entry points export, and each exported
 * declaration of the modules of the library that they export from, has a doc comment with a description, `@since` and
 * `@category`.
 *
 * Reads text, not a syntax tree: declarations stand at the beginning of a line, because dprint puts them there.
 */
import { existsSync, readFileSync } from "node:fs"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "..")

const entries = [
  "src/index.ts",
  "src/emulator/index.ts",
  "src/storage/redis/index.ts",
  "src/storage/postgres/index.ts",
  "src/proxy/index.ts",
  "src/cli/index.ts"
]

const faults = []
const fault = (file, line, message) => faults.push({ file, line, message })

const keywords = "class|interface|type|const|let|var|function\\*?|enum|namespace|module"
const declarationPattern = new RegExp(
  `^(export\\s+)?(default\\s+)?(?:declare\\s+)?(?:abstract\\s+)?(?:async\\s+)?(${keywords})\\s+([\\p{ID_Start}$_][\\p{ID_Continue}$]*)`,
  "u"
)

/** `{ A, type B as C }` as pairs of the name inside and the name outside. */
const specifiersOf = (list) =>
  list.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "").split(",").map((item) => item.trim()).filter((item) => item !== "")
    .map(
      (item) => {
        const [local, exported = local] = item.replace(/^type\s+/, "").split(/\s+as\s+/)
        return { local, exported }
      }
    )

/** The module that a relative specifier names, or undefined for a package. */
const resolve = (file, specifier) =>
  specifier.startsWith(".") ? path.posix.join(path.posix.dirname(file), specifier) : undefined

const modules = new Map()

/** What a module declares, imports and exports. */
const moduleOf = (file) => {
  const known = modules.get(file)
  if (known !== undefined) return known
  const module = { declarations: new Map(), imports: new Map(), reexports: [], stars: [] }
  modules.set(file, module)

  const lines = readFileSync(path.join(root, file), "utf8").split(/\r?\n/)
  let doc // the doc comment that ended on the line before
  let comment // the block comment being read
  for (let index = 0; index < lines.length; index++) {
    const text = lines[index]
    if (comment === undefined && /^\s*\/\*/.test(text)) comment = []
    if (comment !== undefined) {
      comment.push(text)
      if (text.includes("*/")) {
        doc = comment[0].trimStart().startsWith("/**") ? comment.join("\n") : undefined
        comment = undefined
      }
      continue
    }
    if (/^\/\/|^@/.test(text)) continue // a line comment or a decorator may stand between doc comment and declaration

    if (/^(import|export)\b/.test(text)) {
      const statement = lines.slice(index, index + 400).join("\n")
      const list = /^(import|export)\s+(?:type\s+)?(?:[\w$]+\s*,\s*)?\{([^}]*)\}(?:\s*from\s*"([^"]+)")?/.exec(
        statement
      )
      const star = /^export\s+(?:type\s+)?\*\s*(?:as\s+([\w$]+)\s+)?from\s*"([^"]+)"/.exec(statement)
      if (list !== null) {
        const [, keyword, names, specifier] = list
        for (const { exported, local } of specifiersOf(names)) {
          if (keyword === "import") module.imports.set(exported, { name: local, from: resolve(file, specifier) })
          else {module.reexports.push({
              line: index + 1,
              name: exported,
              local,
              from: specifier && resolve(file, specifier),
              specifier
            })}
        }
      } else if (star !== null) {
        const from = resolve(file, star[2])
        if (star[1] !== undefined) {
          fault(file, index + 1, `export * as ${star[1]}: names are exported one by one, not as a namespace`)
        }
        if (from !== undefined) module.stars.push({ line: index + 1, from })
      } else if (/^export\s+(?:const|let|var)\s*[{[]/.test(text)) {
        fault(file, index + 1, "names exported by destructuring cannot be documented: declare each")
      } else if (/^export\s+default\b/.test(text)) {
        fault(file, index + 1, "a default export: export by name")
      }
    }

    const declaration = declarationPattern.exec(text)
    if (declaration !== null) {
      const [, exported, , keyword, name] = declaration
      const previous = module.declarations.get(name) ?? []
      // the signatures of an overloaded function share the comment of the first
      const overload = keyword.startsWith("function") && previous.some((other) => other.keyword === keyword)
      if (!overload) {
        module.declarations.set(name, [
          ...previous,
          { file, line: index + 1, keyword, name, exported: exported !== undefined, doc }
        ])
      }
    }
    doc = undefined
  }
  return module
}

const checked = new Set()

const check = (declaration) => {
  if (checked.has(declaration)) return
  checked.add(declaration)
  const { doc, file, keyword, line, name } = declaration
  if (doc === undefined) return fault(file, line, `${keyword} ${name} has no doc comment`)
  const text = doc.replace(/^\s*\/\*\*/, "").replace(/\*\/\s*$/, "").replace(/^\s*\*/gm, "")
  const tag = (tagName) => new RegExp(`^\\s*@${tagName}[ \\t]+(\\S.*)$`, "m").exec(text)?.[1].trim()
  // a type named like its schema is described there
  const described = moduleOf(file).declarations.get(name)[0] !== declaration
  const missing = [
    ...(!described && text.split(/^\s*@/m)[0].trim() === "" ? ["a description"] : []),
    ...(/^\d+\.\d+\.\d+$/.test(tag("since") ?? "") ? [] : ["@since x.y.z"]),
    ...(tag("category") === undefined ? ["@category"] : [])
  ]
  if (missing.length > 0) fault(file, line, `the doc comment of ${keyword} ${name} lacks ${missing.join(", ")}`)
}

const isInternal = ({ doc }) => doc !== undefined && /^\s*(\/\*)?\*+\s*@internal\b/m.test(doc)

/** The declarations that `name` stands for in a module, through imports and re-exports. */
const find = (file, name, seen = new Set()) => {
  const key = `${file}#${name}`
  if (seen.has(key) || !existsSync(path.join(root, file))) return []
  seen.add(key)
  const module = moduleOf(file)
  const own = module.declarations.get(name)
  if (own !== undefined) return own
  for (const { from, local, name: exported, specifier } of module.reexports) {
    if (exported !== name) continue
    if (specifier === undefined) return find(file, local, seen)
    return from === undefined ? undefined : find(from, local, seen)
  }
  const imported = module.imports.get(name)
  if (imported !== undefined) return imported.from === undefined ? undefined : find(imported.from, imported.name, seen)
  return module.stars.flatMap(({ from }) => find(from, name, seen) ?? [])
}

/** The names that a module exports, each with the line that exports it. */
const exportedNames = (file, seen = new Set()) => {
  if (seen.has(file) || !existsSync(path.join(root, file))) return []
  seen.add(file)
  const { declarations, reexports, stars } = moduleOf(file)
  return [
    ...[...declarations.values()].flat().filter(({ exported }) => exported).map(({ line, name }) => ({ name, line })),
    ...reexports,
    ...stars.flatMap(({ from, line }) => exportedNames(from, seen).map(({ name }) => ({ name, line })))
  ]
}

let reachable = 0
/** The names by entry point: printed with `--names`, for check:reference to compare. */
const namesByEntry = {}
for (const entry of entries) {
  if (!existsSync(path.join(root, entry))) {
    fault(entry, 1, "the entry point does not exist")
    continue
  }
  const names = new Map(exportedNames(entry).map((exported) => [exported.name, exported]))
  reachable += names.size
  namesByEntry[entry] = [...names.keys()]
  for (const { line, name } of names.values()) {
    const declarations = find(entry, name)
    if (declarations === undefined) continue // another package documents it
    if (declarations.length === 0) fault(entry, line, `${name} is exported but declared nowhere`)
    for (const declaration of declarations) {
      if (isInternal(declaration)) {
        fault(declaration.file, declaration.line, `${name} is @internal, but ${entry} exports it`)
      } else check(declaration)
    }
  }
  for (const { from, line } of moduleOf(entry).stars) {
    if (!existsSync(path.join(root, from))) fault(entry, line, `there is no ${from}`)
  }
}

// what stands beside a public name in its module is public too, or says that it is not
const publicModules = new Set(entries.flatMap((entry) => moduleOf(entry).reexports.map(({ from }) => from)))
for (const file of publicModules) {
  if (file === undefined || file.startsWith("src/emulator/") || file.startsWith("src/cli/")) continue
  for (const declaration of [...moduleOf(file).declarations.values()].flat()) {
    if (declaration.exported && !isInternal(declaration)) check(declaration)
  }
}

if (process.argv.includes("--names")) {
  console.log(JSON.stringify(namesByEntry))
  process.exit()
}

faults.sort((a, b) => a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line)
for (const { file, line, message } of faults) console.error(`${file}:${line}: ${message}`)
console.log(
  `${reachable} names exported by ${entries.length} entry points, ${checked.size} declarations checked: ` +
    (faults.length === 0 ? "all documented" : `${faults.length} faults`)
)
process.exitCode = faults.length === 0 ? 0 : 1
