/**
 * The storage that a command works on, as given on the command line: the path of a directory, or the URL of a database.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import { defaultDirectory } from "../../encryption/keys.ts"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { cleanText } from "../../util/sanitize.ts"
import { tenantNamespace } from "../format/tenantNames.ts"
import { defaultTable, tableSetting } from "../postgres/tables.ts"
import {
  configuredUrl,
  defaultNamespace,
  namespaceSetting,
  postgresVariable,
  redisVariable
} from "../records/settings.ts"

export interface DirectoryLocation {
  readonly _tag: "Directory"
  /** The flag that its path comes from, or could be given by. */
  readonly setting: string
  /** `undefined` for the default, `~/.hive/credentials`. */
  readonly directory: string | undefined
}

export interface DatabaseLocation {
  readonly _tag: "Redis" | "Postgres"
  /** The flag or variable that its URL comes from. */
  readonly setting: string
  readonly url: Redacted.Redacted<string>
  readonly namespace: string
  /** The tenant whose part of the namespace it is; `undefined` for the part that belongs to none. */
  readonly tenantId: string | undefined
  /** For Postgres only. */
  readonly table: string
}

export type StorageLocation = DirectoryLocation | DatabaseLocation

/** A flag with its name, for errors. */
interface Given<A> {
  readonly flag: string
  readonly value: Option.Option<A>
}

const kinds: Readonly<Record<string, DatabaseLocation["_tag"]>> = {
  "redis:": "Redis",
  "rediss:": "Redis",
  "postgres:": "Postgres",
  "postgresql:": "Postgres"
}

const variables = { Redis: redisVariable, Postgres: postgresVariable } as const

/** At least two characters, because `C:\\` is a path. */
const schemePattern = /^[a-z][a-z0-9+.-]+:/i

const underFlag = (flag: string) => <A, R>(setting: Effect.Effect<A, AdenConfigError, R>) =>
  Effect.mapError(setting, ({ detail, remedy }) => new AdenConfigError({ setting: flag, detail, remedy }))

/** The kind of storage that a text names, by its scheme; `undefined` for an unknown scheme. */
export const kindOf = (text: Redacted.Redacted<string>): StorageLocation["_tag"] | undefined => {
  const value = Redacted.value(text)
  const scheme = schemePattern.exec(value)?.[0].toLowerCase()
  const kind = scheme === undefined ? undefined : kinds[scheme]
  return kind ?? (value.includes("://") ? undefined : "Directory")
}

/** Parses `agents`, or `agents/acme` for a tenant's part. */
const namespaceSettings = Effect.fnUntraced(function*({ flag, value }: Given<string>) {
  const text = Option.getOrElse(value, () => defaultNamespace)
  const at = text.indexOf("/")
  const tenantId = at < 0 ? undefined : text.slice(at + 1)
  if (tenantId === "") {
    return yield* new AdenConfigError({
      setting: flag,
      detail: "names no tenant after the slash",
      remedy: "Leave the slash out, or give the tenant's id after it, such as agents/acme."
    })
  }
  return { namespace: yield* underFlag(flag)(namespaceSetting(at < 0 ? text : text.slice(0, at))), tenantId }
})

const misplaced = (setting: string, kind: string, flag: string) =>
  new AdenConfigError({
    setting,
    detail: `is for ${kind}, which ${flag} does not name`,
    remedy: `Leave it out, or name a server with ${flag}.`
  })

/** A directory, which takes neither namespace nor table. `flag` is the one that could name a database instead. */
export const directoryLocation = Effect.fnUntraced(function*(options: {
  readonly flag: string
  readonly setting: string
  readonly directory: string | undefined
  readonly namespace: Given<string>
  readonly table: Given<string>
}): Effect.fn.Return<StorageLocation, AdenConfigError> {
  const { directory, flag, namespace, setting, table } = options
  if (Option.isSome(namespace.value)) return yield* misplaced(namespace.flag, "a database", flag)
  if (Option.isSome(table.value)) return yield* misplaced(table.flag, "Postgres", flag)
  return { _tag: "Directory", setting, directory }
})

/** The absolute path of the directory. */
export const directoryOf = Effect.fnUntraced(function*({ directory }: DirectoryLocation) {
  const path = yield* Path.Path
  return path.resolve(directory ?? (yield* defaultDirectory))
})

/**
 * Parses a location. Errors do not repeat it, because it may hold a password. Just `redis:` or `postgres:` stands for the URL in
 * `REDIS_URL` or `DATABASE_URL`, which keeps the password out of the list of processes.
 */
export const storageLocation = Effect.fnUntraced(function*(options: {
  readonly flag: string
  readonly text: Redacted.Redacted<string>
  readonly namespace: Given<string>
  readonly table: Given<string>
}): Effect.fn.Return<StorageLocation, AdenConfigError> {
  const { flag, namespace, table } = options
  const text = Redacted.value(options.text)
  const refuse = (setting: string, detail: string, remedy: string) => new AdenConfigError({ setting, detail, remedy })
  const known = "Give redis://host:6379, postgres://host:5432/database, or the path of a directory."
  if (text === "") return yield* refuse(flag, "is empty", known)
  const kind = kindOf(options.text)
  if (kind === undefined) return yield* refuse(flag, "names an unknown kind of storage", known)
  if (kind === "Directory") return yield* directoryLocation({ flag, setting: flag, directory: text, namespace, table })
  if (kind !== "Postgres" && Option.isSome(table.value)) return yield* misplaced(table.flag, "Postgres", flag)
  const isOfEnvironment = /^[a-z]+:$/i.test(text)
  return {
    _tag: kind,
    setting: isOfEnvironment ? variables[kind] : flag,
    url: isOfEnvironment ? yield* configuredUrl(variables[kind]) : options.text,
    ...(yield* namespaceSettings(namespace)),
    table: yield* underFlag(table.flag)(tableSetting(Option.getOrElse(table.value, () => defaultTable)))
  }
})

/** Fails when the directory does not exist. Mostly its path is mistyped, and doing nothing would pass for success. */
export const requireDirectory = Effect.fnUntraced(function*(
  location: StorageLocation
): Effect.fn.Return<void, AdenConfigError, FileSystem.FileSystem | Path.Path> {
  if (location._tag !== "Directory") return
  const fs = yield* FileSystem.FileSystem
  const directory = yield* directoryOf(location)
  const found = yield* fs.stat(directory).pipe(
    Effect.map(({ type }) => type === "Directory" ? undefined : "something that is not a directory"),
    Effect.catch(({ reason }) =>
      reason._tag === "NotFound" || reason._tag === "BadResource"
        ? Effect.match(fs.readLink(directory), {
          onFailure: () => "a directory that does not exist",
          onSuccess: () => "a link to a directory that does not exist"
        })
        // a directory that cannot be read fails later, with its own error
        : Effect.undefined
    )
  )
  if (found === undefined) return
  return yield* new AdenConfigError(
    location.directory === undefined
      ? {
        setting: location.setting,
        detail: `is not given, and there is no cache at ${cleanText(directory)}`,
        remedy: `Name the directory with ${location.setting}, or create it: aden-creds sync`
      }
      : {
        setting: location.setting,
        detail: `names ${found}: ${cleanText(directory)}`,
        remedy: "Check the path."
      }
  )
})

/** The namespace of a location, which may be a tenant's. */
export const namespaceOf = ({ namespace, tenantId }: DatabaseLocation): string => tenantNamespace(namespace, tenantId)

const defaultPorts = { Redis: "6379", Postgres: "5432" } as const

/** Equal for locations that name the same entries; `undefined` for an invalid URL. */
export const databaseIdentity = (location: DatabaseLocation): string | undefined => {
  const { _tag, namespace, table, tenantId, url } = location
  const text = Redacted.value(url)
  if (!URL.canParse(text)) return undefined
  const { hostname, pathname, port } = new URL(text)
  const host = hostname === "localhost" || hostname === "[::1]" ? "127.0.0.1" : hostname
  const database = pathname === "" || pathname === "/" ? "/0" : pathname
  const identity = [_tag, host, port || defaultPorts[_tag], database, namespace, tenantId ?? ""]
  return JSON.stringify(_tag === "Postgres" ? [...identity, table] : identity)
}
