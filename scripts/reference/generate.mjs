/**
 * Generates the API reference as HTML from the doc comments: `npm run docs` into docs-api, `npm run check:reference` into a folder
 * that is removed again.
 *
 * Fails on every warning of TypeDoc, such as a link that leads nowhere or an export without a doc comment, and when the names in
 * the reference are not those that the entry points export.
 *
 * TypeDoc needs the JavaScript API of the compiler, which TypeScript 7 does not have. So TypeScript 7 writes the declarations, which
 * are what a user of the package gets, and TypeDoc reads them with the TypeScript 6 that is installed in this folder.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import {
  Application,
  Comment,
  CommentTag,
  Converter,
  DeclarationReflection,
  ReflectionKind,
  TSConfigReader
} from "typedoc"

const root = path.resolve(import.meta.dirname, "../..")
const workspace = path.join(root, ".reference")
const out = process.argv.includes("--keep") ? path.join(root, "docs-api") : path.join(workspace, "html")

const read = (file) => JSON.parse(readFileSync(path.join(root, file), "utf8"))
const { exports, name: packageName } = read("package.json")

/** Each entry point: the name under which it is imported, its source and its declarations. */
const entryPoints = Object.entries(exports).flatMap(([subpath, { types }]) =>
  types === undefined
    ? []
    : [{
      name: path.posix.join(packageName, subpath),
      source: types.replace("./dist/", "src/").replace(/\.d\.ts$/, ".ts"),
      declarations: path.join(workspace, types.replace("./dist/", "types/"))
    }]
)

/** Runs a program of Node; ends this one when it fails. */
const run = (...args) => {
  const { error, status, stdout } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"]
  })
  if (error !== undefined) throw error
  if (status !== 0) {
    process.stdout.write(stdout)
    process.exit(status ?? 1)
  }
  return stdout
}

const writeDeclarations = () => {
  const clean = () => rmSync(workspace, { recursive: true, force: true })
  clean()
  process.on("exit", clean)
  mkdirSync(workspace)
  const types = path.join(workspace, "types")
  run("node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--emitDeclarationOnly", "--outDir", types)
  writeFileSync(
    path.join(workspace, "tsconfig.json"),
    JSON.stringify({ extends: "../tsconfig.json", compilerOptions: { paths: {} }, include: ["types"] })
  )
}

/** Calls an entry point by the name under which it is imported. */
const nameModule = (context, reflection) => {
  const file = context.getSymbolFromReflection(reflection)?.declarations?.[0]?.getSourceFile().fileName
  const entry = entryPoints.find((entry) => path.relative(entry.declarations, file ?? "") === "")
  if (entry !== undefined) reflection.name = entry.name
}

/** Puts what a service offers on the page of its class, which names it only in the type of what it extends. */
const addServiceMembers = (context, reflection) => {
  const symbol = context.getSymbolFromReflection(reflection)
  const service = symbol && context.checker.getDeclaredTypeOfSymbol(symbol).getProperty("Service")
  if (service === undefined) return
  // TypeDoc looks for what a class inherits only among the members of classes
  const shape = new DeclarationReflection("Service", ReflectionKind.TypeLiteral, reflection)
  const scope = context.withScope(reflection).withScope(shape)
  // types as they are written, by their names
  scope.convertingTypeNode = true
  for (const member of context.checker.getTypeOfSymbol(service).getProperties()) {
    context.converter.convertSymbol(scope, member)
  }
  for (const member of shape.children ?? []) {
    member.parent = reflection
    member.comment ??= new Comment()
    member.comment.blockTags.push(new CommentTag("@group", [{ kind: "text", text: "Service" }]))
    reflection.addChild(member)
  }
}

/** Leaves out the base that TypeScript names when it writes the declaration of a class, and the constructor of a service. */
const leaveOutBases = ({ project }) => {
  const isBase = (type) => /_base\b/.test(type?.name)
  for (const reflection of Object.values(project.reflections)) {
    if (isBase(reflection.inheritedFrom)) delete reflection.inheritedFrom
    if (isBase(reflection.overwrites)) delete reflection.overwrites
    if (!reflection.kindOf(ReflectionKind.Class) || !reflection.extendedTypes?.every(isBase)) continue
    delete reflection.extendedTypes
    const constructor = reflection.children.find(({ kind }) => kind === ReflectionKind.Constructor)
    if (constructor?.signatures[0].parameters[0]?.type?.name === "never") project.removeReflection(constructor)
  }
}

writeDeclarations()

const app = await Application.bootstrap({
  name: packageName,
  tsconfig: path.join(workspace, "tsconfig.json"),
  entryPoints: entryPoints.map(({ declarations }) => declarations),
  basePath: root,
  readme: "none",
  includeVersion: true,
  hideGenerator: true,
  disableSources: true,
  githubPages: false,
  excludeExternals: true,
  excludeInternal: true,
  excludePrivate: true,
  categorizeByGroup: false,
  requiredToBeDocumented: ["Class", "Enum", "Function", "Interface", "TypeAlias", "Variable"],
  validation: { invalidLink: true, invalidPath: true, notDocumented: true, notExported: true },
  logLevel: "Warn"
}, [new TSConfigReader()])
app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, reflection) => {
  if (reflection.kindOf(ReflectionKind.Module)) nameModule(context, reflection)
  else if (reflection.kindOf(ReflectionKind.Class)) addServiceMembers(context, reflection)
})
// before TypeDoc itself looks at who extends whom
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, leaveOutBases)

const project = await app.convert()
if (project === undefined) process.exit(1)
app.validate(project)
await app.generateDocs(project, out)

const faults = []
let count = 0
const exported = JSON.parse(run("scripts/check-exports.mjs", "--names"))
for (const { name, source } of entryPoints) {
  const found = new Set(project.children.find((module) => module.name === name)?.children.map(({ name }) => name))
  const expected = new Set(exported[source])
  count += found.size
  for (const one of expected) if (!found.has(one)) faults.push(`${name}: the reference lacks ${one}`)
  for (const one of found) {
    if (!expected.has(one)) faults.push(`${name} does not export ${one}, which is in the reference`)
  }
}
for (const text of faults) console.error(text)
const faultCount = app.logger.errorCount + app.logger.warningCount + faults.length
console.log(
  `${count} names exported by ${entryPoints.length} entry points are in the reference: ` +
    (faultCount === 0 ? "all good" : `${faultCount} faults`)
)
process.exitCode = faultCount === 0 ? 0 : 1
