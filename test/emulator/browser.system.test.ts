/**
 * The emulator's pages in a real browser: a person connects, and the program that waits goes on.
 */
import { assert, describe, it } from "@effect/vitest"
import { AdenClient, AdenSyncProvider, CredentialStore, MemoryStorage } from "aden-credentials"
import { AdenEmulator, type AdenEmulatorOptions, Fault } from "aden-credentials/emulator"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import type { BrowserContextOptions, Page } from "playwright-core"
import { browser, chromiumPath } from "../fixtures/chromium.ts"
import { reply, scriptedServer } from "../fixtures/scriptedServer.ts"

const emulated = (options?: AdenEmulatorOptions) =>
  Effect.provide(
    CredentialStore.layer().pipe(
      Layer.provide(AdenSyncProvider.layer()),
      Layer.provide(
        Layer.unwrap(
          Effect.map(AdenEmulator, (aden) => AdenClient.layer({ baseUrl: aden.url, apiKey: aden.apiKey }))
        )
      ),
      Layer.provide([MemoryStorage.layer(), FetchHttpClient.layer]),
      Layer.provideMerge(AdenEmulator.layer(options))
    )
  )

/** A page of its own, and what the browser complained of: refused scripts and styles, errors of the page's script. */
const opened = (url: string, options: BrowserContextOptions = {}) =>
  Effect.gen(function*() {
    const one = yield* browser
    const complaints: Array<string> = []
    const page = yield* Effect.promise(async () => {
      const page = await one.newPage(options)
      page.on("console", (message) => complaints.push(message.text()))
      page.on("pageerror", (error) => complaints.push(error.message))
      await page.goto(url)
      return page
    })
    return { page, complaints }
  })

/** A program that needs slack: where to connect it, and the token once it was connected. */
const waitingProgram = Effect.gen(function*() {
  const store = yield* CredentialStore
  const blocked = yield* Effect.flip(store.token("slack"))
  assert(blocked._tag === "ReauthRequired" && blocked.reauthorizationUrl !== undefined)
  const program = yield* Effect.forkChild(
    Effect.andThen(
      store.awaitReauthorization("slack", { poll: "100 millis", timeout: "1 minute" }),
      store.token("slack")
    ),
    { startImmediately: true }
  )
  return { url: blocked.reauthorizationUrl, program }
})

const lastToken = Effect.flatMap(AdenEmulator, (aden) =>
  Effect.map(aden.issuedTokens, (tokens) => {
    const last = tokens.at(-1)
    return last === undefined ? "none" : `${last.integrationId} ${Redacted.value(last.value)}`
  }))

const user = <A>(act: () => Promise<A>) => Effect.promise(act)

/** Presses the key until what has the focus is called `name`, as one who has no mouse. */
const tabTo = async (page: Page, name: RegExp) => {
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press("Tab")
    if (name.test(await page.evaluate<string>("document.activeElement.textContent"))) return
  }
  throw new Error(`Tab does not lead to ${String(name)}`)
}

describe.skipIf(chromiumPath === undefined)("in Chromium (where it is installed, or CHROMIUM_PATH says where)", () => {
  it.live("a program waits in awaitReauthorization, Connect is clicked, and it goes on with a token", () =>
    Effect.gen(function*() {
      const { program, url } = yield* waitingProgram
      const { complaints, page } = yield* opened(url)
      assert.isUndefined(program.pollUnsafe(), "opening the page connects nothing")
      yield* user(() => page.getByRole("button", { name: "Connect", exact: true }).click())
      const token = yield* Fiber.join(program)
      assert.strictEqual(`slack ${Redacted.value(token)}`, yield* lastToken)
      yield* user(() => page.getByRole("status").getByText("slack is connected.").waitFor())
      assert.deepStrictEqual(complaints, [])
    }).pipe(emulated()))

  it.live("the same from the console, with only the keyboard", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { program } = yield* waitingProgram
      const { complaints, page } = yield* opened(aden.consoleUrl)
      yield* user(() => tabTo(page, /^slack$/))
      yield* user(() => page.keyboard.press("Enter"))
      yield* user(() => page.getByRole("heading", { name: "Connect slack" }).waitFor())
      yield* user(() => tabTo(page, /^Connect$/))
      yield* user(() => page.keyboard.press("Enter"))
      const token = yield* Fiber.join(program)
      assert.strictEqual(`slack ${Redacted.value(token)}`, yield* lastToken)
      assert.deepStrictEqual(complaints, [])
    }).pipe(emulated()))

  it.live("the console's forms work, also without script", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { complaints, page } = yield* opened(aden.consoleUrl, { javaScriptEnabled: false })
      yield* user(() => page.getByRole("button", { name: "Disconnect hubspot" }).click())
      yield* user(() => page.getByRole("button", { name: "Connect hubspot" }).waitFor())
      assert.match(page.url(), /#integration-tenant-123\/hubspot$/)
      yield* user(async () => {
        await page.getByLabel("What happens").selectOption("503: server down")
        await page.getByLabel("To requests").selectOption("health")
        await page.getByLabel("How many times").fill("2")
        await page.getByRole("button", { name: "Set fault" }).click()
        await page.getByText("(health, 2 more times)").waitFor()
      })
      assert.strictEqual((yield* user(() => fetch(`${aden.url}/health`))).status, 503)
      yield* user(() => page.getByRole("link", { name: "Refresh" }).click())
      yield* user(() => page.getByText("(health, 1 more time)").waitFor())
      yield* user(() => page.getByRole("cell", { name: "GET /health" }).waitFor())
      yield* user(() => page.getByRole("button", { name: "End all faults" }).click())
      yield* user(() => page.getByText("No faults set.").waitFor())
      assert.deepStrictEqual(complaints, [])
    }).pipe(emulated()))

  it.live("on a narrow screen no page is wider than it: tables scroll by themselves", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const id = "Z29vZ2xlOlRpbW90aHk6MTk3Mjg6MTEyNTg6MTEyNTg"
      yield* aden.addIntegration({ id, alias: id, scopes: [id], status: "requires_reauth" })
      yield* aden.setFault(Fault.Status({ status: 503 }), { integrationId: id })
      yield* user(() => fetch(`${aden.url}/v1/credentials/${id}/refresh`))
      const { page } = yield* opened(aden.consoleUrl, { viewport: { width: 360, height: 640 } })
      const width = () => user(() => page.evaluate<number>("document.documentElement.scrollWidth"))
      assert.isAtMost(yield* width(), 360)
      yield* user(() => page.getByRole("link", { name: id }).first().click())
      yield* user(() => page.getByRole("heading", { name: `Connect ${id}` }).waitFor())
      assert.isAtMost(yield* width(), 360)
    }).pipe(emulated()))

  it.live("the console follows what happens, and what has the focus keeps it", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { complaints, page } = yield* opened(aden.consoleUrl)
      const focused = () => user(() => page.evaluate<string>("document.activeElement.textContent"))
      yield* user(() => tabTo(page, /^Disconnect github$/))
      yield* aden.connect("slack")
      yield* aden.setFault(Fault.Status({ status: 500 }), { endpoint: "health" })
      yield* user(() => fetch(`${aden.url}/health`))
      yield* user(() => page.getByRole("button", { name: "Disconnect slack" }).waitFor())
      yield* user(() => page.getByRole("status").getByText("3 of 3 integrations are connected. 1 fault set.").waitFor())
      yield* user(() => page.getByRole("cell", { name: "GET /health" }).waitFor())
      assert.strictEqual(yield* focused(), "Disconnect github")
      yield* user(() => page.keyboard.press("Enter"))
      yield* user(() => page.getByRole("button", { name: "Connect github" }).waitFor())
      assert.strictEqual(
        yield* user(() => page.evaluate<string>("document.activeElement.id")),
        "integration-tenant-123/github",
        "who sent the form is in its row again"
      )
      yield* aden.addIntegration({ id: "notion" })
      yield* user(() => page.getByRole("button", { name: "Disconnect notion" }).waitFor())
      assert.deepStrictEqual(complaints, [])
      yield* aden.stop
      yield* user(() => page.getByText("The emulator does not answer").waitFor())
      yield* aden.start
      yield* user(() => page.getByText("This page updates every second").waitFor())
    }).pipe(emulated()))

  it.live("hostile names stay text", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const { complaints, page } = yield* opened(aden.consoleUrl)
      yield* user(() => page.getByText("This page updates every second").waitFor())
      const [script, image] = [
        "<script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">"
      ]
      yield* aden.addIntegration({ id: script, alias: image, scopes: [image] })
      yield* user(() => page.getByRole("link", { name: script }).click())
      yield* user(() => page.getByRole("heading", { name: script }).waitFor())
      assert.strictEqual(yield* user(() => page.title()), `Connect ${script}`)
      assert.strictEqual(yield* user(() => page.locator("img, script").count()), 0)
      assert.deepStrictEqual(complaints, [])
    }).pipe(emulated()))

  it.live("a page of another site can neither send the form nor frame the page", () =>
    Effect.gen(function*() {
      const aden = yield* AdenEmulator
      const connect = `${aden.url}/integrations/slack/connect`
      const evil = yield* scriptedServer({
        replies: [
          reply(
            200,
            `<iframe src="${connect}"></iframe><form method="post" action="${connect}"><button>Win</button></form>`,
            { "content-type": "text/html" }
          )
        ]
      })
      const { page } = yield* opened(`${evil.url}/`)
      assert.deepStrictEqual(page.frames().map((frame) => frame.url()), [
        `${evil.url}/`,
        "chrome-error://chromewebdata/"
      ])
      yield* user(() => page.getByRole("button", { name: "Win" }).click())
      yield* user(() => page.getByRole("heading", { name: "Not from another site" }).waitFor())
      assert.strictEqual((yield* aden.integrations())[2]?.status, "requires_reauth")
    }).pipe(emulated()))
})
