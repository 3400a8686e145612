/**
 * Rules of this package that oxlint has no setting for.
 */
import { readFileSync } from "node:fs"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "../..")

/**
 * The floors of `src`, from the ground up. The first folder of a path is its room. A file imports from its own room and from the
 * floors below; rooms on one floor do not know each other.
 */
const floors = [
  ["util"],
  ["errors"],
  ["model"],
  ["encryption"],
  ["templates", "providers", "storage"],
  ["store"],
  ["cached", "usage", "tenants", "testing"],
  ["http", "proxy"],
  ["index.ts"],
  ["server"],
  ["emulator", "relay"],
  ["cli"]
]

/** The floors within a room, by its second folder; `""` is the files of the room itself. */
const floorsWithin = {
  providers: [[""], ["aden"]],
  storage: [["", "format"], ["records"], ["files", "redis", "postgres"], ["migration"]],
  store: [["core"], [""]]
}

/** What the store knows of where tokens come from and where they are stored: the ports. */
const ports = new Set([
  "src/providers/CredentialProvider.ts",
  "src/storage/CredentialStorage.ts",
  "src/storage/decorate.ts"
])

/** Modules of Node that Bun, Deno and Workers have as well. */
const everywhere = new Set(["node:buffer", "node:crypto"])

/**
 * Where programs are started: the command of `exec`, and one that a setting names for a secret. So nothing that a server sends, such
 * as the address of a page, is opened.
 */
const startsPrograms = new Set(["src/cli/childProcess.ts", "src/encryption/secretSource.ts"])

/** Rooms that run on Node: programs import them by entry points of their own. */
const onNode = ["src/proxy/", "src/server/", "src/emulator/", "src/relay/", "src/cli/"]
const databases = ["src/storage/redis/", "src/storage/postgres/"]

/** The modules that users get names from. */
const publicModules = new Set(
  [
    "src/index.ts",
    "src/storage/redis/index.ts",
    "src/storage/postgres/index.ts",
    "src/proxy/index.ts",
    "src/emulator/index.ts"
  ].flatMap((entry) =>
    Array.from(
      readFileSync(path.join(root, entry), "utf8").matchAll(/from "(\.[^"]+)"/g),
      ([, specifier]) => path.posix.join(path.posix.dirname(entry), specifier)
    )
  )
)

/** What a room lets the command line see of its inside, such as what `doctor` prints. It runs on Node. */
const isInspection = (file) => file.endsWith("/inspect.ts")

const isIn = (file, folders) => folders.some((folder) => file.startsWith(folder))
const roomOf = (file) => file.split("/")[1]
const folderOf = (file) => file.split("/").length > 3 ? file.split("/")[2] : ""
const floorOf = (room, list = floors) => list.findIndex((rooms) => rooms.includes(room))

const relativeToRoot = (file) => path.relative(root, file).replaceAll(path.sep, "/")

/** What is wrong with `from` importing from `to`, two names of one list of floors; `undefined` where nothing is. */
const floorFault = (from, to, list) => {
  if (from === to) return undefined
  const [own, other] = [floorOf(from, list), floorOf(to, list)]
  if (own === -1 || other === -1) return undefined
  if (other > own) {
    return `imports run downwards: ${from || "the room itself"} does not import ${to || "the room itself"}`
  }
  return other === own
    ? `${from || "the room itself"} and ${to || "the room itself"} are on one floor and do not know each other`
    : undefined
}

/** What the command line may import: public modules, and of the private ones those that are made for it. */
const isForCommandLine = (target) =>
  publicModules.has(target) ||
  isIn(target, ["src/cli/", "src/storage/migration/", "src/model/", "src/encryption/", "src/errors/", "src/util/"]) ||
  isInspection(target)

/** What is wrong with `file` importing `specifier`, or undefined. */
export const importFault = (file, specifier, isType = false) => {
  if (/^aden-credentials($|\/)/.test(specifier)) {
    return "a file of this package imports its own modules by relative path"
  }
  if (/^@effect\/platform-node($|\/)/.test(specifier)) {
    return isIn(file, [...onNode, ...databases])
      ? undefined
      : "@effect/platform-node is for the rooms that run on Node and the connections to databases: the core also runs on Bun, Deno and Workers"
  }
  if (/^(node:child_process|effect\/process)($|\/)/.test(specifier) && !isType && !startsPrograms.has(file)) {
    return `programs are started by ${[...startsPrograms].join(" and ")} only`
  }
  if (/^@effect\/sql-pg($|\/)/.test(specifier) && !isType && !isIn(file, ["src/storage/postgres/"])) {
    return "@effect/sql-pg is for src/storage/postgres, but for its types: other programs need not have it"
  }
  if (specifier === "undici" && !isIn(file, ["src/proxy/"])) return "undici is for src/proxy: the core uses HttpClient"
  if (specifier.startsWith("node:") && !everywhere.has(specifier) && !isIn(file, onNode) && !isInspection(file)) {
    return `${specifier} is for the rooms that run on Node: the core also runs on Bun, Deno and Workers`
  }
  if (file.startsWith("src/store/core/") && /^effect\/(Effect|Clock|Random|Ref)$/.test(specifier)) {
    return "src/store/core holds pure functions of values: effects stand at the edge"
  }
  if (!specifier.startsWith(".")) return undefined
  const target = relativeToRoot(path.resolve(root, path.dirname(file), specifier))
  if (!target.startsWith("src/")) return `src does not import ${target}, which is not part of the package`
  if (target.endsWith("/index.ts")) {
    return "an index.ts is an entry point for users: import the module that defines the name"
  }
  const [from, to] = [roomOf(file), roomOf(target)]
  const between = floorFault(from, to, floors)
  if (between !== undefined) return `${between} (${target})`
  if (from === to && from in floorsWithin) {
    const within = floorFault(folderOf(file), folderOf(target), floorsWithin[from])
    if (within !== undefined) return `in ${from}, ${within} (${target})`
  }
  if (from === "store" && (to === "providers" || to === "storage") && !ports.has(target)) {
    return `the store knows ports: ${target} is not one`
  }
  if (from === "index.ts" && !publicModules.has(target)) return `${target} is not public`
  if (to === "emulator" || to === "relay") {
    if (from !== to && from !== "cli") return `only the command line imports ${to}`
  }
  if (to === "testing" && from !== "testing" && from !== "index.ts") return "only index.ts imports testing"
  if (isInspection(target) && from !== "cli" && !isInspection(file) && target !== "src/storage/inspect.ts") {
    return `${target} is for the command line`
  }
  if (from === "cli" && !isForCommandLine(target)) {
    return `${target} is private: the command line imports public modules`
  }
  return undefined
}

const importDirection = {
  create(context) {
    const file = relativeToRoot(context.filename)
    if (!file.startsWith("src/")) return {}
    const check = (source, isType = false) => {
      if (source?.type !== "Literal") return
      const message = importFault(file, source.value, isType)
      if (message !== undefined) context.report({ node: source, message })
    }
    return {
      Program: (node) => {
        const room = roomOf(file)
        const place = `give it its place in ${relativeToRoot(import.meta.filename)}`
        if (floorOf(room) === -1) context.report({ node, message: `${file} is in no room: ${place}` })
        else if (room in floorsWithin && floorOf(folderOf(file), floorsWithin[room]) === -1) {
          context.report({ node, message: `${file} is on no floor of ${room}: ${place}` })
        }
      },
      ImportDeclaration: (node) => check(node.source, node.importKind === "type"),
      ExportNamedDeclaration: (node) => check(node.source),
      ExportAllDeclaration: (node) => check(node.source),
      ImportExpression: (node) => check(node.source),
      TSImportType: (node) => check(node.source)
    }
  }
}

/** Where entries are made: `transition`, and the empty one beside the class. */
const entryMakers = ["src/store/core/Entry.ts", "src/store/core/transition.ts"]

/** What is wrong with `file` importing a name as a value, or undefined; `*` is all names of a module. */
export const entryFault = (file, specifier, name) => {
  if (!file.startsWith("src/") || entryMakers.includes(file)) return undefined
  const target = relativeToRoot(path.resolve(root, path.dirname(file), specifier))
  return target === "src/store/core/Entry.ts" && (name === "Entry" || name === "*")
    ? "only transition makes entries, so that no field survives a change by being forgotten: import the type Entry"
    : undefined
}

const entryOnlyByTransition = {
  create(context) {
    const file = relativeToRoot(context.filename)
    const check = (node, source, name) => {
      const message = source?.type === "Literal" ? entryFault(file, source.value, name) : undefined
      if (message !== undefined) context.report({ node, message })
    }
    return {
      ImportDeclaration: (node) => {
        if (node.importKind === "type") return
        for (const specifier of node.specifiers) {
          if (specifier.importKind === "type") continue
          check(specifier, node.source, specifier.type === "ImportSpecifier" ? specifier.imported.name : "*")
        }
      },
      ExportNamedDeclaration: (node) => {
        if (node.exportKind === "type") return
        for (const specifier of node.specifiers) {
          if (specifier.exportKind !== "type") check(specifier, node.source, specifier.local.name)
        }
      },
      ExportAllDeclaration: (node) => {
        if (node.exportKind !== "type") check(node, node.source, "*")
      },
      ImportExpression: (node) => check(node, node.source, "*")
    }
  }
}

const isAssertion = (node) => node.type === "TSAsExpression" || node.type === "TSTypeAssertion"
const withoutParentheses = (node) =>
  node.type === "ParenthesizedExpression" ? withoutParentheses(node.expression) : node

const noForcedAssertion = {
  create(context) {
    const check = (node) => {
      if (node.typeAnnotation.type === "TSNeverKeyword") {
        context.report({ node, message: "`as never` silences the type checker: make the types agree" })
      } else if (isAssertion(withoutParentheses(node.expression))) {
        context.report({ node, message: "a double assertion silences the type checker: make the types agree" })
      }
    }
    return { TSAsExpression: check, TSTypeAssertion: check }
  }
}

const noCurrentDate = {
  create(context) {
    const check = (node) => {
      if (node.callee.type === "Identifier" && node.callee.name === "Date" && node.arguments.length === 0) {
        context.report({ node, message: "reads the machine's clock: use Clock or DateTime" })
      }
    }
    return { NewExpression: check, CallExpression: check }
  }
}

export default {
  meta: { name: "aden-credentials" },
  rules: {
    "entry-only-by-transition": entryOnlyByTransition,
    "import-direction": importDirection,
    "no-current-date": noCurrentDate,
    "no-forced-assertion": noForcedAssertion
  }
}
