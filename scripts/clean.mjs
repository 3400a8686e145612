/**
 * Removes the given paths of this project: `node scripts/clean.mjs dist`.
 */
import { rm } from "node:fs/promises"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "..")

for (const name of process.argv.slice(2)) {
  const target = path.resolve(root, name)
  if (!target.startsWith(root + path.sep)) throw new Error(`${name} is not inside ${root}`)
  await rm(target, { recursive: true, force: true })
}
