/**
 * What holds over storages and providers that fail, several stores over one storage, and interruptions: rules that need no model
 * of what a store knows, only what really happened. Programs of the wide profile are checked by them.
 */
import type { Credential } from "../../src/model/Credential.ts"
import { accountOf } from "../../src/model/Credential.ts"
import type { Call, CallResult, Operation, OperationResult } from "./Observations.ts"
import type { Config, Instance, Server } from "./Program.ts"
import { accountAt } from "./ScriptedAden.ts"
import type { Issued, ScriptedAden } from "./ScriptedAden.ts"
import { planted } from "./UnreliableStorage.ts"
import type { UnreliableStorage } from "./UnreliableStorage.ts"

const second = 1_000
const minute = 60 * second
const hour = 60 * minute

/** Who keeps the first violation, and knows what is under way. */
interface Judge {
  readonly pending: ReadonlySet<Operation>
  violate(rule: string, detail: string): void
}

interface Account {
  readonly id: string
  readonly provider: string | undefined
  readonly alias: string | undefined
}

/** What a storage holds under an id. */
interface Stored extends Account {
  readonly value: string
  readonly isOwn: boolean
  /** The store that wrote it; none: it was there from the start. */
  readonly by: number | undefined
  readonly sequence: number
  readonly timer: number
}

interface Listed {
  readonly accounts: ReadonlyArray<Account>
  readonly sequence: number
  readonly timer: number
}

/** What the rules look at when an operation ends: how things were when it began. */
interface Start {
  readonly sequence: number
  readonly timer: number
  /** Nothing else was under way on its storage, which has been working for a while. */
  readonly isQuiet: boolean
  readonly stored: Stored | undefined
  /** How often its storage was written to. */
  readonly writes: number
  readonly wasBroken: boolean
  /** The id that the ref was known to mean, of a token in memory that lasts. */
  readonly known: string | undefined
  readonly exchanges: number
  readonly isIdle: boolean
}

class StoreRecord {
  startedAt = 0
  /** What refs were last found to mean. */
  readonly known = new Map<string, string>()
  /** The token that it was last seen to have, by id, and when Aden last answered it. */
  readonly held = new Map<string, { readonly token: Issued; readonly timer: number }>()
  readonly lists = new Map<Server, Listed>()
  /** Where in the sequence a list was last asked for in vain. */
  unlistedAt = -1
  /** When a question about an id last failed, or said anything but a token. */
  readonly troubled = new Map<string, number>()
  /** Integrations that Aden did not have, and did not list either. */
  readonly gone = new Map<string, number>()
  /** When Aden last said that an integration has to be authorized again, unless it was changed or answered since. */
  readonly blocked = new Map<string, number>()
  /** When a question about an id last died of a defect. */
  readonly died = new Map<string, number>()
  /** When reads of a ref ended, since the names at Aden last changed. */
  readonly reads = new Map<string, Array<number>>()
  exchanges = 0
}

/** How long a storage has to work until what was missed has been made up for: late saves are tried each second. */
const settled = 5 * second

export class Invariants {
  readonly #config: Config
  readonly #ledger: Judge
  readonly #aden: ScriptedAden
  readonly #storages: ReadonlyArray<UnreliableStorage>
  readonly #timer: () => number
  readonly #now: () => number
  readonly #records: ReadonlyArray<StoreRecord>
  readonly #stored = new Map<string, Stored>()
  readonly #behind = new Map<string, Stored>()
  readonly #own = new Map<string, Issued>()
  /** Of the operations that have not ended. */
  readonly #starts = new Map<Operation, Start>()
  /** Of all operations: what one asks in the background is asked after its end. */
  readonly #startOf = new WeakMap<Operation, Start>()
  readonly #asking = new Set<Call>()
  /** When a question was asked. */
  readonly #askedAt = new WeakMap<Call, number>()
  /** Writes of one credential that began while another of the same store was under way. */
  readonly #rivals = new WeakSet<Operation>()
  /** The token that an API refused, by operation, and where in the sequence. */
  readonly #refused = new Map<Operation, string>()
  readonly #writes: Array<number> = []
  readonly #workingSince: Array<number> = []
  readonly #wellSince: [number, number] = [0, 0]
  #names = ""
  #namesSince = 0
  #clockSetAt = -Infinity
  #sequence = 0

  constructor(options: {
    readonly config: Config
    readonly ledger: Judge
    readonly aden: ScriptedAden
    readonly storages: ReadonlyArray<UnreliableStorage>
    readonly timer: () => number
    readonly now: () => number
  }) {
    this.#config = options.config
    this.#ledger = options.ledger
    this.#aden = options.aden
    this.#storages = options.storages
    this.#timer = options.timer
    this.#now = options.now
    this.#records = options.config.instances.map(() => new StoreRecord())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What happens
  // -------------------------------------------------------------------------------------------------------------------

  /** Looks at what fares well, whenever something may have changed. */
  look(): void {
    const timer = this.#timer()
    for (const [index, storage] of this.#storages.entries()) {
      const isWorking = storage.isWorking && storage.dying.reads === 0 && storage.dying.writes === 0
      if (!isWorking) this.#workingSince[index] = Infinity
      else if (this.#workingSince[index] === Infinity) this.#workingSince[index] = timer
    }
    for (const server of [0, 1] as const) {
      if (!this.#aden.isFaultless(server)) this.#wellSince[server] = Infinity
      else if (this.#wellSince[server] === Infinity) this.#wellSince[server] = timer
    }
    const names = JSON.stringify(this.#config.instances.map(({ tenant }) => this.#accountsAt(tenant)))
    if (names === this.#names) return
    this.#names = names
    this.#namesSince = timer
    for (const { reads } of this.#records) reads.clear()
  }

  clockSet(): void {
    this.#clockSetAt = this.#timer()
    for (const record of this.#records) record.known.clear()
  }

  restarted(instance: number): void {
    const record = this.#record(instance)
    record.startedAt = ++this.#sequence
    // what storage had the time to take is known to the next store
    const since = this.#workingSince[this.#place(instance).storage] ?? 0
    for (const [id, at] of record.blocked) {
      if (this.#timer() - Math.max(at, since) < settled) record.blocked.delete(id)
    }
    record.known.clear()
    record.held.clear()
    record.lists.clear()
    record.troubled.clear()
    record.gone.clear()
    record.died.clear()
    record.reads.clear()
  }

  madeOwn(token: Issued): void {
    this.#own.set(token.value, token)
  }

  /** A credential that stands in the second storage from the start. */
  stoodBehind(storage: number, credential: Credential, value: string): void {
    this.#behind.set(`${storage}/${credential.id}`, {
      ...accountOf(credential),
      value,
      isOwn: false,
      by: undefined,
      sequence: 0,
      timer: 0
    })
  }

  saved(instance: number, credential: Credential, value: string): void {
    const { id } = credential
    const account = accountOf(credential)
    const before = this.#storedOf(instance, id)
    const isOwn = this.#own.has(value)
    const { storage } = this.#place(instance)
    this.#writes[storage] = (this.#writes[storage] ?? 0) + 1
    this.#stored.set(`${storage}/${id}`, {
      ...account,
      value,
      isOwn,
      by: instance,
      sequence: ++this.#sequence,
      timer: this.#timer()
    })
    const isNamedSo = before?.provider === account.provider && before?.alias === account.alias
    for (const [other, { known }] of this.#records.entries()) {
      if (this.#place(other).storage !== storage) continue
      for (const [ref, meant] of known) {
        const isMeant = meant === id ? isOwn || !isNamedSo : !isNamedSo && fits(ref, account)
        if (isMeant || ref === id) known.delete(ref)
      }
    }
    if (!isOwn) return
    for (const { blocked, gone } of this.#records) {
      gone.delete(id)
      blocked.delete(id)
    }
  }

  deleted(instance: number, id: string): void {
    const { storage } = this.#place(instance)
    this.#writes[storage] = (this.#writes[storage] ?? 0) + 1
    ++this.#sequence
    this.#stored.delete(`${storage}/${id}`)
    for (const { blocked } of this.#records) blocked.delete(id)
    for (const [other, { known }] of this.#records.entries()) {
      if (this.#place(other).storage !== storage) continue
      for (const [ref, meant] of known) if (meant === id || ref === id) known.delete(ref)
    }
  }

  /** An API refused the token that was sent to it. */
  refused(operation: Operation, value: string): void {
    this.#refused.set(operation, value)
  }

  requestStarted(instance: number): void {
    this.#record(instance).exchanges++
  }

  callStarted(call: Call): void {
    this.look()
    this.#asking.add(call)
    this.#askedAt.set(call, this.#timer())
    const { id, instance, kind, operation } = call
    if (id === undefined || operation === undefined) return
    const stored = this.#storedOf(instance, id)
    const start = this.#startOf.get(operation)
    const token = stored === undefined ? undefined : this.#aden.issued.get(stored.value)
    const isReadable = this.#storages[this.#place(instance).storage]?.canBeRead === true
    if (kind === "refresh" && operation.kind === "call" && isReadable && token !== undefined) {
      const refused = this.#refused.get(operation)
      const isBetter = refused !== undefined && refused !== token.value &&
        this.#aden.isAccepted(token, this.#now() + minute)
      if (isBetter) {
        this.#ledger.violate(
          "the loser of a renewal uses what it finds in storage",
          `${id} is renewed because ${refused} was refused, although ${token.value} is stored`
        )
      }
    }
    // Aden may issue tokens that do not last as long as they have to
    const lasts = token?.expiresAt === undefined || operation.minTimeLeft === undefined ||
      this.#now() + this.#aden.clockSkew + operation.minTimeLeft < token.expiresAt
    if (
      kind === "refresh" && operation.kind === "lasting" && lasts && this.#config.hasSharedLock && isReadable &&
      start !== undefined && stored?.by !== undefined && stored.by !== instance && token !== undefined &&
      stored.sequence > start.sequence && this.#timer() - start.timer < 30 * second
    ) {
      this.#ledger.violate(
        "a token that is to last is renewed once for all who ask at the same time",
        `${id} is renewed again, although ${stored.value} was stored since`
      )
    }
    const record = this.#record(instance)
    const diedAt = record.died.get(id) ?? -Infinity
    const held = record.held.get(id)?.token.expiresAt ?? Infinity
    const isHeld = record.held.has(id) && this.#now() + this.#aden.clockSkew + minute < held
    const isLater = start !== undefined && start.timer >= diedAt
    if (operation.kind === "read" && isLater && isHeld && this.#timer() - diedAt < second && kind !== "validate") {
      this.#ledger.violate(
        "a question that died is not asked again at each read",
        `${kind} ${id} ${this.#timer() - diedAt} ms later`
      )
    }
  }

  callEnded(call: Call, result: CallResult): void {
    this.look()
    this.#asking.delete(call)
    const { id, instance } = call
    const record = this.#record(instance)
    const timer = this.#timer()
    if (result._tag === "List") {
      record.lists.set(call.server ?? 0, { accounts: result.accounts ?? [], sequence: ++this.#sequence, timer })
      for (const listed of result.ids) record.gone.delete(listed)
    }
    if (call.kind === "list" && result._tag !== "List") record.unlistedAt = ++this.#sequence
    if (id === undefined) return
    switch (result._tag) {
      case "Token": {
        const token = this.#aden.issued.get(result.value)
        if (token !== undefined) record.held.set(id, { token, timer })
        record.troubled.delete(id)
        record.died.delete(id)
        for (const [index, other] of this.#records.entries()) {
          if (this.#place(index).storage !== this.#place(instance).storage) continue
          other.gone.delete(id)
          other.blocked.delete(id)
        }
        return
      }
      case "Defect":
        record.died.set(id, timer)
        return
      case "Validity":
        if (!result.isBlocked) return
        record.blocked.set(id, timer)
        break
      case "Nothing":
        this.#gone(call, id)
        break
      case "Failure":
        if (result.tag === "ReauthRequired") record.blocked.set(id, timer)
        if (result.tag === "IntegrationNotFound") {
          this.#gone(call, id)
          record.held.delete(id)
          // what a second storage has of it says nothing of that it was blocked
          if (this.#config.wide?.fallback.includes(id) === true) record.blocked.delete(id)
        }
        if (result.tag === "AdenUnavailable") {
          record.troubled.set(id, timer)
          return
        }
        break
      case "Interrupted":
        return
      default:
    }
    record.troubled.set(id, timer)
    for (const [ref, meant] of record.known) if (meant === id) record.known.delete(ref)
  }

  /** Aden does not have it; what another store had confirmed since the question was asked stays. */
  #gone(call: Call, id: string): void {
    const stored = this.#storedOf(call.instance, id)
    const isSavedSince = stored?.by !== undefined && stored.by !== call.instance &&
      stored.timer >= (this.#askedAt.get(call) ?? Infinity)
    if (!isSavedSince) this.#record(call.instance).gone.set(id, ++this.#sequence)
  }

  started(operation: Operation): void {
    this.look()
    if (operation.kind === "save" || operation.kind === "delete") {
      for (const other of this.#starts.keys()) {
        const isRival = other.instance === operation.instance && other.ref === operation.ref &&
          (other.kind === "save" || other.kind === "delete")
        if (isRival) this.#rivals.add(operation)
      }
    }
    const { instance, ref } = operation
    const record = this.#record(instance)
    const place = this.#place(instance)
    const storage = this.#storages[place.storage]
    const timer = this.#timer()
    const known = record.known.get(ref)
    const others = (item: { readonly instance: number }) => this.#place(item.instance).storage === place.storage
    const isIdle = !Array.from(this.#asking).some((call) => call.instance === instance)
    const isQuiet = storage !== undefined && storage.running === 0 &&
      timer - (this.#workingSince[place.storage] ?? 0) >= settled &&
      !Array.from(this.#asking).some(others) &&
      !Array.from(this.#ledger.pending).some((other) =>
        other !== operation && others(other) && other.kind !== "follow" && other.kind !== "await"
      )
    const start: Start = {
      sequence: ++this.#sequence,
      timer,
      isQuiet,
      stored: this.#storedOf(instance, ref),
      writes: this.#writes[place.storage] ?? 0,
      wasBroken: storage?.isWorking === false,
      known: known !== undefined && this.#lasts(record, known) ? known : undefined,
      exchanges: record.exchanges,
      isIdle
    }
    this.#starts.set(operation, start)
    this.#startOf.set(operation, start)
    if (operation.kind === "invalidate" || operation.kind === "save" || operation.kind === "delete") {
      for (const [name, meant] of record.known) {
        if (name === ref || meant === ref) record.known.delete(name)
      }
    }
    // a token that is refused is asked for at once
    if (operation.kind === "invalidate") record.died.delete(ref)
    // what the program deletes shows again where a second storage has it
    if (operation.kind === "delete") {
      for (const { blocked, gone } of this.#records) {
        gone.delete(ref)
        blocked.delete(ref)
      }
    }
  }

  ended(operation: Operation, result: OperationResult): void {
    this.look()
    const start = this.#starts.get(operation)
    this.#starts.delete(operation)
    this.#refused.delete(operation)
    // a validation that its deadline cut short does not come to remove what is gone
    if (operation.kind === "validate" && result._tag !== "Done") {
      this.#record(operation.instance).gone.delete(operation.ref)
    }
    if (start === undefined || result._tag === "Interrupted") return
    if (result._tag === "Defect" && result.message.includes(planted)) return
    const { instance, kind, ref } = operation
    // of two writes at a time it is not seen which took effect
    if ((kind === "save" || kind === "delete") && result._tag === "Failure" && !this.#rivals.has(operation)) {
      this.#checkWrite(operation, start, result.tag)
    }
    if (kind === "await" && result._tag === "Failure") this.#checkFound(operation, start, result.tag)
    if (kind !== "read") return
    const record = this.#record(instance)
    this.#checkMemory(operation, start, result)
    this.#checkDelay(operation, start, result)
    if (result._tag === "Token") {
      this.#checkPick(operation, start, result.value)
      this.#checkGone(operation, result.value)
      this.#checkBlocked(operation, start, result.value)
    }
    if (result._tag === "Failure") {
      this.#checkFound(operation, start, result.tag)
      this.#checkStoredFound(operation, start, result.tag)
      this.#checkNames(operation, result.tag)
      this.#checkOtherProvider(operation, start, result.tag)
      this.#checkAsked(operation, start, result.tag)
    }
    const ends = record.reads.get(ref) ?? []
    record.reads.set(ref, ends)
    ends.push(this.#timer())
    if (result._tag !== "Token") return
    const token = this.#tokenOf(result.value)
    if (token === undefined) return
    // a change that has taken effect, and does not return yet, may be in memory any moment
    const isChanging = Array.from(this.#ledger.pending).some((other) =>
      (other.kind === "save" || other.kind === "delete") && other.ref === token.id &&
      this.#place(other.instance).storage === this.#place(instance).storage
    )
    const isDeleted = start.stored !== undefined && this.#storedOf(instance, ref) === undefined
    if (!isChanging && !isDeleted) record.known.set(ref, token.id)
    if (record.held.get(token.id)?.token !== token) record.held.set(token.id, { token, timer: this.#timer() })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Rules
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * When nothing else is under way and storage works, a store answers what is stored: whatever was interrupted, failed or died
   * before, and whichever store wrote it, where storage tells of that. Where it does not, a store knows what it wrote itself.
   */
  #checkMemory({ instance, ref }: Operation, start: Start, result: OperationResult): void {
    if (result._tag !== "Token" || !start.isQuiet || this.#isDisturbed(instance, start)) return
    const token = this.#tokenOf(result.value)
    if (token?.id !== ref || !this.#isSeen(instance, ref)) return
    const { stored } = start
    if (stored?.value === token.value) return
    // asked for during this read, and not kept
    if (this.#record(instance).exchanges !== start.exchanges) return
    this.#ledger.violate(
      "memory equals storage",
      `${ref} got ${token.value}, while ${stored === undefined ? "nothing" : stored.value} is stored`
    )
  }

  /** A storage that fails or hangs keeps no read waiting for longer than 1 s, and fails none, whose token is in memory and lasts. */
  #checkDelay({ instance, kind, ref }: Operation, start: Start, result: OperationResult): void {
    if (start.known === undefined || !start.wasBroken || kind !== "read") return
    if (this.#isRenamed(instance, ref, start.known, start.sequence)) return
    const waited = this.#timer() - start.timer
    if (result._tag === "Token" && waited <= second) return
    if (result._tag === "Failure" && ["CredentialNotFound", "AmbiguousCredential"].includes(result.tag)) {
      return this.#ledger.violate("a known name stays known", `${ref} (${start.known}): ${result.tag}`)
    }
    this.#ledger.violate(
      "a storage that fails delays no read of what is in memory",
      `${ref} (${start.known}): ${JSON.stringify(result)} after ${waited} ms`
    )
  }

  /**
   * A provider's name, or an alias, that two accounts have is never answered with the token of one: in storage, or in Aden's list. A
   * storage that takes long to list what another process has stored does not delay the read of a known name for longer than 1 s.
   */
  #checkPick({ instance, ref }: Operation, start: Start, value: string): void {
    const token = this.#tokenOf(value)
    if (token === undefined || token.id === ref) return
    const record = this.#record(instance)
    const lists = Array.from(record.lists.values())
    const listed = lists.flatMap(({ accounts }) => accounts).filter((account) => fits(ref, account))
    // a list that is newer than the names in storage settles what the ref means
    const isSettled = listed.length === 1 && listed[0]?.id === token.id &&
      lists.every(({ timer }) => timer >= this.#namesSince)
    // what Aden's last list leaves out has no name any more, and what it has is called so, unless it was stored since
    const stored = this.#fitting(instance, ref).filter(({ id, isOwn, timer }) => {
      const list = record.lists.get(this.#serverOf(id))
      if (isOwn || list === undefined || list.timer < timer) return true
      return list.accounts.some((account) => account.id === id && fits(ref, account))
    })
    if (
      !isSettled && start.isQuiet && !this.#isDisturbed(instance, start) && stored.length > 1 &&
      stored.every(({ by, id, timer }) =>
        this.#isSeen(instance, id) &&
        (by === instance || this.#isListedInTime || start.timer - timer > this.#config.cacheTtl)
      )
    ) {
      return this.#ledger.violate(
        "never a silent pick",
        `${ref} got ${value} of ${stored.map(({ id }) => id).join(", ")}`
      )
    }
    // while the list cannot be fetched, what is stored decides
    if (record.unlistedAt > start.sequence) return
    if (token.isOwn || lists.some(({ sequence, timer }) => sequence > start.sequence || timer < this.#namesSince)) {
      return
    }
    if (listed.length > 1) {
      this.#ledger.violate(
        "never a silent pick",
        `${ref} got ${value}; listed are ${listed.map(({ id }) => id).join(", ")}`
      )
    }
  }

  /** What Aden does not have and does not list any more is not answered, until Aden answers it again. */
  #checkGone({ instance, ref }: Operation, value: string): void {
    const token = this.#tokenOf(value)
    const record = this.#record(instance)
    if (token === undefined || token.isOwn) return
    const missedAt = record.gone.get(token.id)
    const server = this.#serverOf(token.id)
    const list = record.lists.get(server)
    if (missedAt === undefined || list === undefined || list.sequence < missedAt) return
    // another store had it confirmed at the same time, and learns of it later
    const stored = this.#storedOf(instance, token.id)
    if (stored?.by !== undefined && stored.by !== instance && this.#timer() - stored.timer < this.#config.cacheTtl) {
      return
    }
    if (list.accounts.some(({ id }) => id === token.id)) return
    // storage deletes it before memory does; while storage could not be read, the store did not know which token that was
    const { storage } = this.#place(instance)
    if (this.#timer() - list.timer < settled || list.timer - (this.#workingSince[storage] ?? 0) < settled) return
    this.#ledger.violate("what Aden does not have any more is not served", `${ref} got ${value}`)
  }

  /**
   * A credential that has to be authorized again is not served, also where storage failed when this was learnt, or the store was
   * started again after storage had worked for a while.
   */
  #checkBlocked({ instance, ref }: Operation, start: Start, value: string): void {
    const token = this.#tokenOf(value)
    if (token === undefined || token.isOwn) return
    const at = this.#record(instance).blocked.get(token.id)
    if (at !== undefined && at < start.timer) {
      this.#ledger.violate("never a blocked credential's token", `${ref} got ${value}`)
    }
  }

  /** A save or a deletion that took effect succeeds, whatever else storage does not do. */
  #checkWrite({ instance, kind, ref }: Operation, start: Start, tag: string): void {
    const stored = this.#storedOf(instance, ref)
    const isDone = kind === "save"
      ? stored?.isOwn === true && stored.by === instance && stored.sequence > start.sequence
      : start.stored !== undefined && stored === undefined
    if (isDone && tag === "CredentialStorageError") {
      this.#ledger.violate("a change that took effect succeeds", `${kind} ${ref}: ${tag}`)
    }
  }

  /** What Aden lists is found: by a name that one connected account has, also where it took the place of another. */
  #checkFound({ instance, ref }: Operation, start: Start, tag: string): void {
    if (tag !== "CredentialNotFound" || this.#namesSince > start.timer || !this.#isWell(start)) return
    // a ref that is an id means that integration only, although another of this name may be listed
    if (this.#config.integrations.some(({ id }) => id === ref)) return
    const { tenant } = this.#place(instance)
    const connected = this.#accountsAt(tenant).filter((account) => fits(ref, account))
    const [account] = connected
    const lists = Array.from(this.#record(instance).lists.values())
    const isAsked = lists.some(({ accounts, sequence }) =>
      sequence > start.sequence && accounts.some(({ id }) => id === account?.id)
    )
    if (connected.length === 1 && isAsked && start.isQuiet) {
      this.#ledger.violate("what Aden lists is found", `${ref}: ${tag}, although ${account?.id} is listed`)
    }
  }

  /** What this store wrote is found by its names, and is ambiguous only where two accounts have them. */
  #checkStoredFound({ instance, ref }: Operation, start: Start, tag: string): void {
    if (!start.isQuiet || this.#isDisturbed(instance, start)) return
    const fitting = this.#fitting(instance, ref)
    const seen = fitting.filter(({ id }) => this.#isSeen(instance, id))
    if (tag === "CredentialNotFound" && seen.length > 0) {
      const [first] = seen
      if (this.#record(instance).gone.has(first?.id ?? "")) return
      this.#ledger.violate("what is stored is found", `${ref}: ${tag}, although ${first?.id} is stored`)
    }
    if (tag !== "AmbiguousCredential" || fitting.length > 1) return
    const { by = instance } = this.#lastChange(instance)
    const isKnown = this.#config.wide?.notifies === true || by === instance
    const lists = Array.from(this.#record(instance).lists.values())
    const listed = lists.flatMap(({ accounts }) => accounts).filter((account) => fits(ref, account))
    // one that is stored and another one that is listed are two
    if (isKnown && new Set([...fitting, ...listed].map(({ id }) => id)).size < 2) {
      this.#ledger.violate("ambiguous only where two accounts fit", `${ref}: ${fitting.length} stored`)
    }
  }

  /** A name means what Aden calls by it: once a read has had the time to ask, an account that was renamed does not stand in the way. */
  #checkNames({ instance, ref }: Operation, tag: string): void {
    if (tag !== "AmbiguousCredential") return
    const { tenant, storage } = this.#place(instance)
    const timer = this.#timer()
    const named = this.#accountsAt(tenant).filter((account) => fits(ref, account))
    // a blocked account is listed as well
    const listed = Array.from(this.#record(instance).lists.values()).flatMap((list) =>
      list.timer < this.#namesSince ? [] : list.accounts.filter((account) => fits(ref, account))
    )
    const isOwnNamedSo = Array.from(this.#stored).some(([key, account]) =>
      key.startsWith(`${storage}/`) && account.isOwn && fits(ref, account)
    )
    const since = Math.max(this.#namesSince, this.#wellSince[0], this.#wellSince[1], this.#workingSince[storage] ?? 0)
    const reads = (this.#record(instance).reads.get(ref) ?? []).filter((at) => at >= since)
    const [first] = reads
    const isLong = first !== undefined && timer - first > 2 * this.#config.cacheTtl + this.#config.deadline &&
      reads.length > 1
    if (named.length === 1 && listed.length < 2 && !isOwnNamedSo && isLong) {
      this.#ledger.violate(
        "a name means what Aden calls by it",
        `${ref}: ${tag}, although only ${named[0]?.id} is called so`
      )
    }
  }

  /** A provider that is down or hangs holds back nothing that another one has. */
  #checkOtherProvider({ instance, ref }: Operation, start: Start, tag: string): void {
    const { tenant } = this.#place(instance)
    const servers = [0, 1] as const
    if (!this.#config.integrations.some(({ server }) => server === 1) || !start.isQuiet) return
    if (["CredentialNotFound", "AmbiguousCredential", "ReauthRequired", "NoProvider"].includes(tag)) return
    if (this.#namesSince >= start.timer - 10 * minute && this.#namesSince > 0) return
    const homes = servers.filter((server) =>
      this.#aden.accountsOf(accountAt(tenant, server)).some((account) => account.id === ref || fits(ref, account))
    )
    const [home] = homes
    if (homes.length !== 1 || home === undefined) return
    const account = this.#aden.accountsOf(accountAt(tenant, home)).find((item) => item.id === ref || fits(ref, item))
    const isWell = start.timer - this.#wellSince[home] >= 5 * minute || this.#wellSince[home] === 0
    const isOtherDown = this.#aden.isFaultless(home === 0 ? 1 : 0) === false
    if (!isWell || !isOtherDown || this.#config.latency > 2_000 || account === undefined) return
    // no provider renews the program's own
    if (this.#storedOf(instance, account.id)?.isOwn === true) return
    const { died, troubled } = this.#record(instance)
    if (troubled.has(account.id) || died.has(account.id)) return
    this.#ledger.violate("a provider that is down holds back nothing of another", `${ref}: ${tag}`)
  }

  /** Once Aden has been well for long, a read that has nothing to serve asks it, whatever the clock did. */
  #checkAsked({ instance, ref }: Operation, start: Start, tag: string): void {
    const long = 2 * minute
    if (tag !== "AdenUnavailable" || !start.isIdle) return
    if (start.timer - Math.max(this.#wellSince[0], this.#wellSince[1]) < long) return
    if (start.timer - (this.#workingSince[this.#place(instance).storage] ?? 0) < long) return
    const { died, exchanges } = this.#record(instance)
    // who shares a question that has just died asks none of its own
    if (exchanges !== start.exchanges || Array.from(died.values()).some((at) => at >= start.timer - settled)) return
    this.#ledger.violate("an Aden that is well is asked", `${ref}: ${tag} without a request`)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What is known
  // -------------------------------------------------------------------------------------------------------------------

  #record(instance: number): StoreRecord {
    const record = this.#records[instance]
    if (record === undefined) throw new Error(`no instance ${instance}`)
    return record
  }

  #place(instance: number): Instance {
    const place = this.#config.instances[instance]
    if (place === undefined) throw new Error(`no instance ${instance}`)
    return place
  }

  #tokenOf(value: string): Issued | undefined {
    return this.#aden.issued.get(value) ?? this.#own.get(value)
  }

  #storedOf(instance: number, id: string): Stored | undefined {
    const key = `${this.#place(instance).storage}/${id}`
    return this.#stored.get(key) ?? this.#behind.get(key)
  }

  #fitting(instance: number, ref: string): ReadonlyArray<Stored> {
    const { storage } = this.#place(instance)
    return Array.from(new Map([...this.#behind, ...this.#stored])).filter(([key, account]) =>
      key.startsWith(`${storage}/`) && fits(ref, account)
    ).map(([, account]) => account)
  }

  #lastChange(instance: number): { readonly by: number | undefined } {
    const { storage } = this.#place(instance)
    return Array.from(this.#stored).filter(([key]) => key.startsWith(`${storage}/`))
      .map(([, account]) => account)
      .reduce<Stored | undefined>((a, b) => a === undefined || b.sequence > a.sequence ? b : a, undefined) ??
      { by: undefined }
  }

  /** Whether a store knows of what was last written under an id: it wrote it, was started later, or was told. */
  #isSeen(instance: number, id: string): boolean {
    if (this.#config.wide?.notifies === true) return true
    const { storage } = this.#place(instance)
    const others = this.#config.instances.filter((place) => place.storage === storage).length > 1
    const stored = this.#stored.get(`${storage}/${id}`)
    if (!others) return true
    return stored !== undefined &&
      (stored.by === instance || stored.sequence < this.#record(instance).startedAt)
  }

  /** Whether a list that arrived since then says that this id is not called by this name any more. */
  #isRenamed(instance: number, ref: string, id: string, sequence: number): boolean {
    const list = this.#record(instance).lists.get(this.#serverOf(id))
    if (ref === id || list === undefined || list.sequence < sequence || this.#storedOf(instance, id)?.isOwn === true) {
      return false
    }
    return !list.accounts.some((account) => account.id === id && fits(ref, account))
  }

  /** Whether storage can be listed, and one entry of it read, before a read of a known name goes on without that. */
  get #isListedInTime(): boolean {
    const { listTakes = 0, readTakes = 0 } = this.#config.wide ?? {}
    return listTakes + 2 * readTakes < second
  }

  #isDisturbed(instance: number, start: Start): boolean {
    const { storage } = this.#place(instance)
    return (this.#writes[storage] ?? 0) !== start.writes || (this.#workingSince[storage] ?? 0) > start.timer
  }

  /** Whether a store has a token that lasts, and that Aden confirmed within the hour without any trouble since. */
  #lasts(record: StoreRecord, id: string): boolean {
    const held = record.held.get(id)
    if (held === undefined || record.gone.has(id) || record.troubled.has(id)) return false
    const { timer, token } = held
    const age = this.#timer() - timer
    return age < hour && this.#clockSetAt < timer &&
      (token.expiresAt === undefined || this.#now() + this.#aden.clockSkew + minute < token.expiresAt) &&
      (token.expiresAt === undefined || this.#now() + minute < token.expiresAt)
  }

  #isWell(start: Start): boolean {
    return this.#wellSince.every((since) => since < start.timer || since === 0)
  }

  #serverOf(id: string): Server {
    return this.#config.integrations.find((item) => item.id === id)?.server ?? 0
  }

  #accountsAt(tenant: string): ReadonlyArray<Account> {
    return [0, 1].flatMap((server) => this.#aden.accountsOf(accountAt(tenant, server === 0 ? 0 : 1)))
      .map(({ alias, id, provider }) => ({ alias, id, provider }))
  }
}

const fits = (ref: string, { alias, provider }: Account): boolean =>
  provider === ref || (alias !== undefined && `${provider}:${alias}` === ref)
