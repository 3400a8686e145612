/**
 * Runs every check, each under a heading, and fails if one of them failed. All of them run, so that one call shows everything
 * that has to be fixed.
 */
import { spawnSync } from "node:child_process"

const checks = ["types", "lint", "format", "circular", "docs", "reference", "exports", "package"]

const seconds = (start) => `${((performance.now() - start) / 1000).toFixed(1)} s`

const failed = []
const start = performance.now()
for (const check of checks) {
  const checkStart = performance.now()
  console.log(`\n=== check:${check}`)
  const { status } = spawnSync("npm", ["run", "--silent", `check:${check}`], {
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32"
  })
  if (status !== 0) failed.push(check)
  console.log(`--- check:${check} ${status === 0 ? "passed" : "FAILED"} in ${seconds(checkStart)}`)
}

console.log(
  failed.length === 0
    ? `\nAll ${checks.length} checks passed in ${seconds(start)}.`
    : `\n${failed.length} of ${checks.length} checks FAILED: ${failed.join(", ")} (${seconds(start)})`
)
process.exitCode = failed.length === 0 ? 0 : 1
