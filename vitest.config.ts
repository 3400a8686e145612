import { availableParallelism } from "node:os"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { SlowFirst } from "./scripts/vitest-sequence.ts"
import "./scripts/vitest-node20.ts"

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

/** What is left to chance, or tries one thing after another, is repeated a few times (test/fixtures/repeats.ts). */
const quick = { TEST_REPEATS: process.env["TEST_REPEATS"] ?? "few" }

export default defineConfig({
  resolve: {
    // the package by its own name means its sources: tests and examples need no build
    alias: [
      { find: /^aden-credentials$/, replacement: source("index.ts") },
      { find: /^aden-credentials\/emulator$/, replacement: source("emulator/index.ts") },
      { find: /^aden-credentials\/redis$/, replacement: source("storage/redis/index.ts") },
      { find: /^aden-credentials\/postgres$/, replacement: source("storage/postgres/index.ts") },
      { find: /^aden-credentials\/proxy$/, replacement: source("proxy/index.ts") },
      { find: /^aden-credentials\/cli$/, replacement: source("cli/index.ts") }
    ]
  },
  test: {
    environment: "node",
    // processes, not threads: tests change the working directory and the umask, and start processes of their own
    pool: "forks",
    // no file leaves anything behind, so that the library need not be loaded, nor programs be bundled, for each of them
    isolate: false,
    // half of the time of many files goes into waiting for leases, sockets, disks and other processes
    maxWorkers: 2 * availableParallelism(),
    sequence: { sequencer: SlowFirst },
    // a process of its own takes seconds to start where many run at once
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 10_000,
    projects: [
      // values, TestClock and the emulator in memory: no socket, disk, process
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/**/*.{io,system}.test.ts"],
          env: quick,
          // nothing is waited for: with more workers than cores the library is only loaded more often
          maxWorkers: availableParallelism(),
          // vitest asks for a group of its own where the number of workers differs; it runs last
          sequence: { groupOrder: 1 }
        }
      },
      // one process, sockets on 127.0.0.1, temporary directories; beside it only helpers that end at once, such as mkfifo
      { extends: true, test: { name: "io", include: ["test/**/*.io.test.ts"], env: quick } },
      // processes, Redis, Postgres, a browser, git, Python, the built command, many repetitions
      { extends: true, test: { name: "system", include: ["test/**/*.system.test.ts"] } }
    ]
  }
})
