/**
 * What the emulator's pages share: their style, the check of who may use them, and what a browser may do with them.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import type * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest, type ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { createHash } from "node:crypto"
import { cleanText } from "../util/sanitize.ts"
import { Html, html } from "./Html.ts"

export interface PageOptions {
  readonly title: string
  readonly body: Html
  readonly status?: number
  /** A script that the page runs. The page has to work without it. */
  readonly script?: string
}

const style = `
:root {
  color-scheme: light dark;
  --line: light-dark(#c8ccd2, #4a5058);
  --quiet: light-dark(#565d66, #a8b0ba);
  --good: light-dark(#0b6b35, #6fd99b);
  --bad: light-dark(#a3231b, #ff9d94);
  --accent: light-dark(#0a58ca, #8ab8ff);
}
* { box-sizing: border-box }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 64rem }
body.narrow { max-width: 34rem }
h1 { line-height: 1.2; margin: 0 0 .5rem }
h2 { line-height: 1.2; margin: 2.5rem 0 .75rem }
a { color: var(--accent) }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
bdi { overflow-wrap: anywhere }
.scroll { overflow-x: auto; position: relative; margin-block-end: 1rem }
table { border-collapse: collapse; width: 100% }
caption { text-align: start; font-weight: 600; padding-block: .5rem }
th, td { border-block-end: 1px solid var(--line); padding: .5rem .75rem .5rem 0; text-align: start }
th { font-weight: 600 }
.requests td { white-space: nowrap; font-variant-numeric: tabular-nums }
.requests td.path { white-space: normal; min-width: 14rem }
.requests tbody tr td { padding-block: .25rem }
.quiet { color: var(--quiet); font-weight: normal }
.good { color: var(--good) }
.bad { color: var(--bad) }
form { display: inline }
form.fields { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: end }
.field { display: grid; grid-template-columns: minmax(0, 1fr); gap: .25rem; max-width: min(100%, 24rem) }
label { font-size: .9rem }
button, select, input { font: inherit; font-size: 1rem; line-height: 1.5; padding: .4rem .75rem; border: 1px solid var(--line); border-radius: .4rem;
  max-width: 100% }
button { cursor: pointer }
button.main { background: #0a58ca; border-color: #0a58ca; color: #fff; padding: .6rem 1.5rem }
select { min-height: 2.4rem }
input { width: 8.5rem }
::placeholder { color: var(--quiet); opacity: 1 }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
ul.faults { list-style: none; padding: 0; margin: 0 0 1rem }
ul.faults li { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; padding-block: .35rem;
  border-block-end: 1px solid var(--line) }
ul.faults li span { flex: 1 }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
`

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

const policyFor = (script: string | undefined): string =>
  [
    "default-src 'none'",
    `style-src ${hashOf(style)}`,
    ...(script === undefined ? [] : [`script-src ${hashOf(script)}`, "connect-src 'self'"]),
    "img-src data:",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'"
  ].join("; ")

/** Answers with a page. */
export const respond = ({ body, script, status = 200, title }: PageOptions): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(
    html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${new Html(style)}</style>
${script === undefined ? undefined : new Html(`<script type="module">${script}</script>`)}
</head>
${body}
</html>
`.source,
    {
      status,
      contentType: "text/html; charset=utf-8",
      headers: {
        "content-security-policy": policyFor(script),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        // "no-referrer" would have browsers send `Origin: null` with the page's own forms
        "referrer-policy": "same-origin"
      }
    }
  )

/** A name that a program chose, made safe to show: characters that hide or reorder text are removed, and a long name is cut. */
export const name = (text: string) => html`<bdi>${cleanText(text)}</bdi>`

/** A page with a short message. */
export const message = (status: number, title: string, text: Html) =>
  respond({
    status,
    title,
    body: html`<body class="narrow"><main><h1>${title}</h1>${text}${consoleLink}</main></body>`
  })

/** The path of the console. */
export const consolePath = "/"

export const consoleLink = html`<p><a href="${consolePath}">The emulator's console</a></p>`

/** An effect that answers with a page. */
export type PageAnswer = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  HttpServerRequest | ParsedSearchParams | HttpRouter.RouteContext
>

type Method = "GET" | "POST"

/** The longest form that is read. */
const maximumForm = ByteSize.kibibytes(64)

/** Adds a page to the router, with its answers to `GET` and `POST`; other methods are answered with 405. */
export const add = Effect.fnUntraced(function*(
  router: HttpRouter.HttpRouter,
  path: HttpRouter.PathInput,
  answers: Partial<Record<Method, PageAnswer>>
) {
  const allow = [...answers.GET === undefined ? [] : ["GET", "HEAD"], ...answers.POST === undefined ? [] : ["POST"]]
  const refusal = Effect.sync(() =>
    HttpServerResponse.setHeader(
      message(405, "Method not allowed", html`<p>This address accepts ${allow.join(", ")}.</p>`),
      "allow",
      allow.join(", ")
    )
  )
  for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const) {
    const answer = method === "GET" || method === "POST" ? answers[method] : undefined
    yield* router.add(method, path, answer === undefined ? refusal : fromHere(answer))
  }
})

/**
 * Keeps out the forms of other sites: a page elsewhere can send one here, but then the browser names that site in `Origin`. Programs
 * send no `Origin`. `Host` is this machine: the server sees to it.
 */
const fromHere = (answer: PageAnswer): PageAnswer =>
  Effect.gen(function*() {
    const { headers, method } = yield* HttpServerRequest
    const { host = "", origin } = headers
    if (method === "POST" && origin !== undefined && origin !== `http://${host}`) {
      return message(403, "Not from another site", html`<p>Nothing was changed: the form was sent by another site.</p>`)
    }
    return yield* answer
  }).pipe(Effect.provideService(HttpIncomingMessage.MaxBodySize, maximumForm))
