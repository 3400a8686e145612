import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import "./scripts/vitest-node20.ts"

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    // the package by its own name means its sources: tests and examples need no build
    alias: [
      { find: /^aden-credentials$/, replacement: source("index.ts") },
      { find: /^aden-credentials\/emulator$/, replacement: source("emulator/index.ts") },
      { find: /^aden-credentials\/redis$/, replacement: source("redis/index.ts") },
      { find: /^aden-credentials\/postgres$/, replacement: source("postgres/index.ts") },
      { find: /^aden-credentials\/cli$/, replacement: source("cli/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    environment: "node",
    // processes, not threads: tests change the working directory and the umask, and start processes of their own
    pool: "forks",
    // much of the time goes into waiting for sockets, disks and other processes
    maxWorkers: "100%",
    // a process of its own takes seconds to start where many run at once
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 10_000
  }
})
