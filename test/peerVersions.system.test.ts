/**
 * Every version that package.json allows for a package beside this one has to work. The lowest and the newest that the registry has
 * are installed, all lowest together and all newest together, and programs use what needs them.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "effect/persistence"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { promisify } from "node:util"
import { bundleInto } from "./fixtures/bundle.ts"
import { postgres, redis } from "./fixtures/realServers.ts"
import { newSchema } from "./storage/postgres/postgresSchema.ts"
import { connected, newNamespace } from "./storage/redis/redisNamespace.ts"

const run = promisify(execFile)

const npm = (args: ReadonlyArray<string>, cwd?: string) =>
  run("npm", ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000", ...args], { cwd })

interface Manifest {
  readonly peerDependencies: Readonly<Record<string, string>>
}

const { peerDependencies }: Manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))

const byVersion = new Intl.Collator("en", { numeric: true }).compare

/** Every version of a range, the lowest first. A range leaves out what comes before a release. */
const versionsOf = async (name: string, range: string): Promise<ReadonlyArray<string>> => {
  const { stdout } = await npm(["view", `${name}@${range}`, "version", "--json"])
  const found: string | ReadonlyArray<string> = stdout.trim() === "" ? [] : JSON.parse(stdout)
  return [found].flat().toSorted(byVersion)
}

/** Of each package the versions that are allowed; a text where the registry cannot be asked. */
const allowed = await Promise.all(
  Object.entries(peerDependencies).map(async ([name, range]) => [name, await versionsOf(name, range)] as const)
).catch((error: unknown) => {
  const text = String(error)
  if (/\b(?:ENOTFOUND|EAI_AGAIN|ECONN\w+|ENET\w+|EHOST\w+|ETIMEDOUT|ERR_SOCKET_TIMEOUT|FETCH_ERROR)\b/.test(text)) {
    return "the npm registry cannot be reached"
  }
  throw error
})

/** A folder in which these versions are installed, with the programs that use them; gone with the scope. */
const installed = Effect.fnUntraced(function*(versions: ReadonlyArray<string>) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "aden-peers-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )
  const flags = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
  yield* Effect.promise(() => npm(["install", "--prefix", folder, ...flags, ...versions], folder))
  yield* Effect.sync(() =>
    bundleInto(
      folder,
      ["effect", "entries", "redis", "postgres"].map((name) => `test/fixtures/peers/${name}.ts`),
      Object.keys(peerDependencies)
    )
  )
  return folder
})

/** What a program prints. */
const printed = (folder: string, name: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const { stdout } = await run(process.execPath, [path.join(folder, `${name}.mjs`), ...args], { cwd: folder })
    return stdout.trim().split("\n")
  })

const ends = typeof allowed === "string" ? [] : ([["lowest", 0], ["newest", -1]] as const).map(([end, at]) =>
  [
    end,
    allowed.map(([name, versions]) => {
      const version = versions.at(at)
      assert(version !== undefined, `no version of ${name} is ${peerDependencies[name]}`)
      return `${name}@${version}`
    })
  ] as const
)

const without = [redis, postgres].flatMap(({ isThere, why }) => isThere ? [] : [why]).join("")

describe(`the packages beside this one${without}`, () => {
  if (typeof allowed === "string") it.skip(`the ends of each range (left out: ${allowed})`)

  // one that is both needs no second look
  for (
    const [end, versions] of ends.filter(([, own], at) =>
      !ends.slice(0, at).some(([, other]) => String(own) === String(other))
    )
  ) {
    it.live(`the ${end} versions work: ${versions.join(", ")}`, () =>
      Effect.gen(function*() {
        const folder = yield* installed(versions)
        const [token = "", again, status] = yield* printed(folder, "effect")
        assert.match(token, /\S{8}/)
        assert.deepStrictEqual([again, status], [token, "0"])
        assert.deepStrictEqual(yield* printed(folder, "entries"), ["PostgresConnection", "RedisConnection"])
        if (redis.isThere) {
          const namespace = yield* Effect.provideService(newNamespace, Redis.Redis, yield* connected())
          assert.deepStrictEqual(yield* printed(folder, "redis", redis.url, namespace), ["it came back"])
        }
        if (postgres.isThere) {
          assert.deepStrictEqual(yield* printed(folder, "postgres", yield* newSchema), ["it came back"])
        }
      }))
  }
})
