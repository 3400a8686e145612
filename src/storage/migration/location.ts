/**
 * Which storage a command works on, as a person names it: the path of a directory, or the URL of a database.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import { defaultDirectory } from "../../encryption/keys.ts"
import { AdenConfigError } from "../../errors/CredentialError.ts"
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
  /** The flag that its path comes from, or could come from. */
  readonly setting: string
  /** `~/.hive/credentials` where none is given. */
  readonly directory: string | undefined
}

export interface DatabaseLocation {
  readonly _tag: "Redis" | "Postgres"
  /** The flag or variable that its URL comes from. */
  readonly setting: string
  readonly url: Redacted.Redacted<string>
  readonly namespace: string
  /** Whose part of the namespace it is; `undefined` for the part that is no tenant's. */
  readonly tenantId: string | undefined
  /** Of Postgres alone. */
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

/** Two characters at least: `C:\\` is a path. */
const schemePattern = /^[a-z][a-z0-9+.-]+:/i

const underFlag = (flag: string) => <A, R>(setting: Effect.Effect<A, AdenConfigError, R>) =>
  Effect.mapError(setting, ({ detail, remedy }) => new AdenConfigError({ setting: flag, detail, remedy }))

/** What a text names, as far as its beginning tells; `undefined` for a storage that there is not. */
export const kindOf = (text: Redacted.Redacted<string>): StorageLocation["_tag"] | undefined => {
  const value = Redacted.value(text)
  const scheme = schemePattern.exec(value)?.[0].toLowerCase()
  const kind = scheme === undefined ? undefined : kinds[scheme]
  return kind ?? (value.includes("://") ? undefined : "Directory")
}

/** `agents`, or `agents/acme` for the part of a tenant. */
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

/** A directory has neither namespace nor table. `flag` is the one that could name a database. */
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

/** The directory, whole: as it is compared, and named to a person. */
export const directoryOf = Effect.fnUntraced(function*({ directory }: DirectoryLocation) {
  const path = yield* Path.Path
  return path.resolve(directory ?? (yield* defaultDirectory))
})

/**
 * Reads what was given, which no error repeats: it may hold a password. `redis:` and `postgres:` alone are the servers of
 * `REDIS_URL` and `DATABASE_URL`, whose passwords no list of processes shows.
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
  if (kind === undefined) return yield* refuse(flag, "names a kind of storage that there is not", known)
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

/** Fails where a directory is not there. Its path is mistyped, mostly, and to have done nothing in it would pass for success. */
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
          onFailure: () => "a directory that is not there",
          onSuccess: () => "a link to a directory that is not there"
        })
        // one that cannot be looked into tells that by itself
        : Effect.undefined
    )
  )
  if (found === undefined) return
  return yield* new AdenConfigError(
    location.directory === undefined
      ? {
        setting: location.setting,
        detail: `is not given, and there is no cache at ${cleanText(directory)}`,
        remedy: `Name the directory with ${location.setting}, or have it made: aden-creds sync`
      }
      : {
        setting: location.setting,
        detail: `names ${found}: ${cleanText(directory)}`,
        remedy: "Check the path."
      }
  )
})

/** The namespace that a location names, which may be a tenant's. */
export const namespaceOf = ({ namespace, tenantId }: DatabaseLocation): string => tenantNamespace(namespace, tenantId)

const defaultPorts = { Redis: "6379", Postgres: "5432" } as const

/** What two texts have in common that name one place; URLs that make no sense have nothing in common. */
export const databaseIdentity = (location: DatabaseLocation): string | undefined => {
  const { _tag, namespace, table, tenantId, url } = location
  const text = Redacted.value(url)
  if (!URL.canParse(text)) return undefined
  const { hostname, pathname, port } = new URL(text)
  const host = hostname === "localhost" || hostname === "[::1]" ? "127.0.0.1" : hostname
  const database = pathname === "" || pathname === "/" ? "/0" : pathname
  const place = [_tag, host, port || defaultPorts[_tag], database, namespace, tenantId ?? ""]
  return JSON.stringify(_tag === "Postgres" ? [...place, table] : place)
}
