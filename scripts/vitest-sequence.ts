/**
 * The order of the test files within a project. Those that take longest, much of it waiting for leases, servers and other
 * processes, begin first: the many short ones fill the gaps, and none of the long ones is left over at the end.
 */
import { BaseSequencer } from "vitest/node"
import type { TestSpecification } from "vitest/node"

/** The longest first, those that take over ten seconds. */
const slow = [
  // system
  "storage/files/EncryptedFileStorage.crashes.system",
  "storage/files/EncryptedFileStorage.system",
  "storage/postgres/SqlStorage.system",
  "storage/redis/RedisStorage.system",
  "simulation/simulation.system",
  "simulation/fleet.system",
  "cli/migrate.system",
  "storage/postgres/SqlStorage.processes.system",
  "storedTexts.system",
  "storage/redis/RedisStorage.processes.system",
  "cli/storedTexts.system",
  "cli/secrets.system",
  "secrets.system",
  "cli/storedTexts.files.system",
  "peerVersions.system",
  "cli/process.system",
  "cli/databases.system",
  "cli/exec.system",
  "storage/FallbackStorage.system",
  "storage/files/hivePython.system",
  "usage/UsageReporter.system",
  "store/shutdown.system",
  "store/workers.system",
  // io
  "cli/commands.io",
  "cli/doctor.io",
  "storage/files/EncryptedFileStorage.foreignFiles.io",
  "storage/files/EncryptedFileStorage.io",
  "providers/aden/AdenClient.answers.io",
  "tenants/TenantCredentials.io",
  "store/concurrentWrites.files.io",
  "storage/files/DiskGuard.io",
  "storage/files/hiveFiles.io",
  "store/failingStorage.io",
  "storage/files/FileLock.io",
  // unit
  "simulation/simulation",
  "store/concurrentWrites",
  "store/outcomes"
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
