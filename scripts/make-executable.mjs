/**
 * Makes the commands that package.json names executable: the compiler writes them as plain files.
 */
import { chmodSync, readFileSync } from "node:fs"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "..")
const { bin } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))

for (const target of Object.values(bin)) chmodSync(path.join(root, target), 0o755)
