import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { faults, patched } from "./Faults.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

describe("faults", () => {
  it("each can be put into the store as it is", () => {
    for (const { name, patches } of faults) {
      const sources = new Map<string, string>()
      for (const patch of patches) {
        const source = sources.get(patch.file) ?? readFileSync(`${root}/${patch.file}`, "utf8")
        const result = patched(source, patch)
        assert(result !== undefined, `"${name}" cannot be put in: ${patch.file} does not have once: ${patch.from}`)
        sources.set(patch.file, result)
      }
    }
  })
})
