/**
 * Checks what would be published: builds, packs into a temporary folder, has publint and attw judge the tarball, and looks
 * whether everything that package.json points to is in it and loads.
 */
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "..")
const folder = mkdtempSync(path.join(tmpdir(), "aden-credentials-package-"))

const faults = []

/** Runs a command with its output shown; its failure is a fault. */
const run = (title, command, args, options) => {
  console.log(`-- ${title}`)
  const { error, status } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options })
  if (error !== undefined) throw error
  if (status !== 0) faults.push(`${title}: ended with status ${status}`)
  return status === 0
}
const npm = (title, args) => run(title, "npm", ["--loglevel=error", ...args], { shell: process.platform === "win32" })
const tool = (title, file, args) => run(title, process.execPath, [path.join(root, "node_modules", file), ...args])

/** Every string in a tree of export conditions. */
const targetsOf = (tree) =>
  typeof tree === "string" ? [tree] : tree === null ? [] : Object.values(tree).flatMap(targetsOf)

const checkTargets = (packed, manifest) => {
  for (const target of targetsOf(manifest.exports)) {
    if (target.includes("*")) continue // publint looks at patterns
    if (!existsSync(path.join(packed, target))) faults.push(`exports: ${target} is not in the tarball`)
  }
  for (const [name, target] of Object.entries(manifest.bin)) {
    const file = path.join(packed, target)
    if (!existsSync(file)) {
      faults.push(`bin ${name}: ${target} is not in the tarball`)
      continue
    }
    if (!readFileSync(file, "utf8").startsWith("#!/usr/bin/env node\n")) {
      faults.push(`bin ${name}: ${target} does not begin with #!/usr/bin/env node`)
    }
    if (process.platform !== "win32" && (statSync(file).mode & 0o111) !== 0o111) {
      faults.push(`bin ${name}: ${target} is not executable`)
    }
  }
}

const specifierPattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)"(\.{1,2}\/[^"]*)"/g

const checkContents = (packed) => {
  const files = readdirSync(packed, { recursive: true }).map((name) => name.replaceAll(path.sep, "/"))
  for (const file of files) {
    if (/^(dist\/)?(test|bench|examples|scripts)(\/|$)|\.test\.|(^|\/)(\.env|node_modules)/.test(file)) {
      faults.push(`${file} does not belong in the tarball`)
    }
    if (!/^dist\/.*\.(js|d\.ts)$/.test(file)) continue
    // the compiler rewrites specifiers only in JavaScript; in a declaration "./A.ts" stands for A.d.ts
    const isDeclaration = file.endsWith(".d.ts")
    for (const [, specifier] of readFileSync(path.join(packed, file), "utf8").matchAll(specifierPattern)) {
      const target = path.posix.join(path.posix.dirname(file), specifier)
      const resolved = isDeclaration ? target.replace(/\.(ts|js)$/, ".d.ts") : target
      if (!isDeclaration && specifier.endsWith(".ts")) faults.push(`${file} imports ${specifier}: not rewritten to .js`)
      else if (!target.startsWith("dist/")) faults.push(`${file} imports ${specifier}, outside dist`)
      else if (!files.includes(resolved)) faults.push(`${file} imports ${specifier}, which is not in the tarball`)
    }
  }
  return files.filter((file) => statSync(path.join(packed, file)).isFile()).length
}

/** The entry points, imported by the name of the package. */
const checkLoads = (manifest) => {
  const entries = Object.keys(manifest.exports)
    .filter((entry) => !entry.endsWith(".json") && !entry.includes("*"))
    .map((entry) => path.posix.join(manifest.name, entry))
  const program = entries.map((entry) => `await import(${JSON.stringify(entry)})`).join("\n")
  run(`load ${entries.join(", ")}`, process.execPath, ["--input-type=module", "--eval", program])
}

const check = () => {
  if (!npm("build", ["run", "--silent", "build"])) return
  if (!npm("pack", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder])) return
  const tarball = path.join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")))
  tool("publint", "publint/src/cli.js", ["run", tarball, "--strict", "--pack", "false"])
  tool("attw", "@arethetypeswrong/cli/dist/index.js", [
    tarball,
    "--profile",
    "esm-only",
    "--no-emoji",
    "--format",
    "ascii"
  ])

  console.log("-- contents")
  const { status } = spawnSync("tar", ["-xzf", path.basename(tarball)], { cwd: folder, stdio: "inherit" })
  if (status !== 0) return faults.push("tar could not unpack the tarball")
  const packed = path.join(folder, "package")
  const manifest = JSON.parse(readFileSync(path.join(packed, "package.json"), "utf8"))
  checkTargets(packed, manifest)
  console.log(`${checkContents(packed)} files, ${(statSync(tarball).size / 1024).toFixed(0)} KiB packed`)
  checkLoads(manifest)
}

try {
  check()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
for (const text of faults) console.error(text)
console.log(faults.length === 0 ? "the package is sound" : `${faults.length} faults`)
process.exitCode = faults.length === 0 ? 0 : 1
