/**
 * Rules of this package that oxlint has no setting for.
 */
import path from "node:path"

const root = path.resolve(import.meta.dirname, "../..")

/**
 * From the ground up: a file imports from its own layer and those below. Folders end in "/". `src/internal/` has no place in
 * the order (its files serve every layer); what keeps it honest is `import/no-cycle`.
 */
const layers = [
  {
    name: "model",
    members: [
      "src/Credential.ts",
      "src/CredentialError.ts",
      "src/CredentialEvent.ts",
      "src/CredentialTemplate.ts",
      "src/Fernet.ts"
    ]
  },
  { name: "contract and client", members: ["src/AdenApi.ts", "src/AdenClient.ts"] },
  {
    name: "storage, provider and policy",
    members: [
      "src/CredentialStorage.ts",
      "src/storage/",
      "src/CredentialProvider.ts",
      "src/AdenSyncProvider.ts",
      "src/RefreshPolicy.ts"
    ]
  },
  { name: "store", members: ["src/CredentialStore.ts", "src/TestCredentials.ts"] },
  {
    name: "above the store",
    members: ["src/TenantCredentials.ts", "src/CredentialHttpClient.ts", "src/UsageReporter.ts"]
  },
  { name: "public surface", members: ["src/index.ts"] },
  { name: "connections to databases", members: ["src/redis/", "src/postgres/"] },
  { name: "emulator", members: ["src/emulator/"] },
  { name: "command line", members: ["src/cli/"] }
]

/** Modules of Node that Bun, Deno and Workers have as well. */
const everywhere = new Set(["node:buffer", "node:crypto"])

const has = (members) => (file) =>
  members.some((member) => member.endsWith("/") ? file.startsWith(member) : file === member)
const inInternal = has(["src/internal/"])
const inEmulator = has(["src/emulator/"])
const inCommandLine = has(["src/cli/"])
const inConnection = has(["src/redis/", "src/postgres/"])
const layerOf = (file) => layers.findIndex(({ members }) => has(members)(file))

const relativeToRoot = (file) => path.relative(root, file).replaceAll(path.sep, "/")

/** What is wrong with `file` importing `specifier`, or undefined. */
const importFault = (file, specifier, isType) => {
  if (/^aden-credentials($|\/)/.test(specifier)) {
    return "a file of this package imports its own modules by relative path"
  }
  if (/^@effect\/platform-node($|\/)/.test(specifier)) {
    return inEmulator(file) || inCommandLine(file) || inConnection(file)
      ? undefined
      : "@effect/platform-node is for src/cli, src/emulator and src/redis alone: the core also runs on Bun, Deno and Workers"
  }
  if (/^@effect\/sql-pg($|\/)/.test(specifier) && !isType && !inConnection(file)) {
    return "@effect/sql-pg is for src/postgres alone, but for its types: other programs need not have it"
  }
  if (specifier.startsWith("node:") && !everywhere.has(specifier) && !inEmulator(file) && !inCommandLine(file)) {
    return `${specifier} is for src/cli and src/emulator alone: the core also runs on Bun, Deno and Workers`
  }
  if (!specifier.startsWith(".")) return undefined
  const target = relativeToRoot(path.resolve(root, path.dirname(file), specifier))
  if (!target.startsWith("src/")) return `src does not import ${target}, which is not part of the package`
  if (target.endsWith("/index.ts")) {
    return "an index.ts is an entry point for users: import the module that defines the name"
  }
  if (inCommandLine(target) && !inCommandLine(file)) return "nothing imports the command line"
  if (inConnection(target) && !inConnection(file) && !inCommandLine(file)) {
    return "only the command line imports a connection: it needs a package that other programs need not have"
  }
  if (inEmulator(target) && !inEmulator(file) && !inCommandLine(file)) {
    return "only the command line imports the emulator"
  }
  if (inInternal(target)) {
    return file === "src/index.ts" ? "what src/internal holds is not exported to users" : undefined
  }
  if (inInternal(file)) return undefined
  const from = layerOf(file)
  const to = layerOf(target)
  if (from !== -1 && to > from) {
    return `imports run downwards: "${layers[from].name}" does not import "${layers[to].name}" (${target})`
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
        if (layerOf(file) === -1 && !inInternal(file)) {
          context.report({
            node,
            message: `${file} is in no layer: give it its place in ${relativeToRoot(import.meta.filename)}`
          })
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
    "import-direction": importDirection,
    "no-current-date": noCurrentDate,
    "no-forced-assertion": noForcedAssertion
  }
}
