/**
 * The order of the test files. Those that take longest, much of it waiting for leases, servers and other processes, begin first:
 * the many short ones fill the gaps, and none of the long ones is left over at the end.
 */
import { BaseSequencer } from "vitest/node"
import type { TestSpecification } from "vitest/node"

/** The longest first. */
const slow = [
  "storage/EncryptedFileStorage.processes",
  "storage/SqlStorage",
  "storage/RedisStorage",
  "simulation/simulation",
  "storage/EncryptedFileStorage",
  "storage/RedisStorage.processes",
  "storage/SqlStorage.processes",
  "cli/migrate",
  "simulation/fleet",
  "cli/process",
  "cli/secrets",
  "peerVersions"
]

const rank = ({ moduleId }: TestSpecification): number => {
  const found = slow.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
  return found === -1 ? slow.length : found
}

export class SlowFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    // oxlint-disable-next-line unicorn/no-array-sort -- that of vitest, which answers a new array
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}
