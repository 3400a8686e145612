/**
 * The console: a page on which a person sees and changes the emulator's state. It shows no token and no API key.
 *
 * Requests of the console are not logged: they would push the requests of programs out of the log.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { schemaBodyUrlParams } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import { expiryText } from "../util/humanTime.ts"
import { cleanText } from "../util/sanitize.ts"
import * as connectPage from "./connectPage.ts"
import { endpointsOfAden, type FaultPlan, type SetFault } from "./FaultPlan.ts"
import { faultLabel, faultPresets } from "./faultPresets.ts"
import { type Html, html } from "./Html.ts"
import { type EmulatedIntegration, type IntegrationRegistry, isExpired } from "./IntegrationRegistry.ts"
import * as Page from "./page.ts"
import type { EmulatorRequest, RequestLog } from "./RequestLog.ts"
import { serverNow } from "./serverClock.ts"

export interface ConsoleOptions {
  readonly registry: IntegrationRegistry
  readonly faults: FaultPlan
  readonly log: RequestLog
  readonly firstTenant: string
}

const paths = {
  connect: "/console/connect",
  disconnect: "/console/disconnect",
  setFault: "/console/faults",
  endFault: "/console/faults/end",
  endAllFaults: "/console/faults/end-all"
} as const

/** The page, and the forms on it. */
export const layer = (options: ConsoleOptions) =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const { faults, registry } = options
    yield* Page.add(router, Page.consolePath, { GET: Effect.map(gather(options), page) })
    yield* Page.add(router, paths.connect, { POST: onIntegration(registry, registry.connect) })
    yield* Page.add(router, paths.disconnect, { POST: onIntegration(registry, registry.revoke) })
    yield* Page.add(router, paths.setFault, { POST: setFault(options) })
    yield* Page.add(router, paths.endFault, {
      POST: submitted(EndForm, ({ fault }) => Effect.as(faults.end(fault), backTo("faults")))
    })
    yield* Page.add(router, paths.endAllFaults, { POST: Effect.as(faults.clear, backTo("faults")) })
  }))

// ---------------------------------------------------------------------------------------------------------------------
// What the forms do
// ---------------------------------------------------------------------------------------------------------------------

/** How many requests a fault may be set for. */
const maximumTimes = 1_000

const IntegrationForm = Schema.Struct({ integration: Schema.String })
const EndForm = Schema.Struct({ fault: Schema.FiniteFromString })
const FaultForm = Schema.Struct({
  fault: Schema.Literals([...faultPresets.keys()]),
  endpoint: Schema.Literals(["", ...endpointsOfAden]),
  integration: Schema.String,
  times: Schema.Union([
    Schema.Literal(""),
    Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 1, maximum: maximumTimes }))
  ])
})

/** Runs the action of a form. Answers 400 when a field is missing or wrong. */
const submitted = <A, I extends Readonly<Record<string, string>>>(
  schema: Schema.Codec<A, I>,
  act: (form: A) => Effect.Effect<HttpServerResponse.HttpServerResponse>
): Page.PageAnswer =>
  Effect.matchEffect(schemaBodyUrlParams(schema), {
    onFailure: () =>
      Effect.succeed(
        Page.message(400, "Invalid form", html`<p>Nothing was changed: a field is missing or wrong.</p>`)
      ),
    onSuccess: act
  })

/** Redirects to this part of the console, so that a reload does not send the form again. */
const backTo = (part: string) => HttpServerResponse.redirect(`${Page.consolePath}#${part}`, { status: 303 })

// ids can be any text: line breaks and names such as ".." would not survive a form or a path unencoded
const keyOf = ({ id, tenantId }: EmulatedIntegration): string =>
  [tenantId, id].map((text) => encodeURIComponent(text.toWellFormed())).join("/")

const rowOf = (integration: EmulatedIntegration): string => `integration-${keyOf(integration)}`

const allOf = (registry: IntegrationRegistry) =>
  Effect.flatMap(
    registry.tenants,
    (tenants) =>
      Effect.forEach(tenants, (id) => Effect.map(registry.list(id), (integrations) => ({ id, integrations })))
  )

const findByKey = (registry: IntegrationRegistry, key: string) =>
  Effect.map(
    allOf(registry),
    (tenants) => tenants.flatMap(({ integrations }) => integrations).find((integration) => keyOf(integration) === key)
  )

const unknownIntegration = Page.message(
  404,
  "Unknown integration",
  html`<p>Nothing was changed: the emulator no longer has this integration.</p>`
)

const onIntegration = (
  registry: IntegrationRegistry,
  act: (integration: EmulatedIntegration) => Effect.Effect<unknown>
) =>
  submitted(
    IntegrationForm,
    Effect.fnUntraced(function*(form) {
      const integration = yield* findByKey(registry, form.integration)
      if (integration === undefined) return unknownIntegration
      yield* act(integration)
      return backTo(rowOf(integration))
    })
  )

const setFault = ({ faults, registry }: ConsoleOptions) =>
  submitted(
    FaultForm,
    Effect.fnUntraced(function*(form) {
      const integration = form.integration === "" ? undefined : yield* findByKey(registry, form.integration)
      const preset = faultPresets.get(form.fault)
      if (preset === undefined || (integration === undefined && form.integration !== "")) return unknownIntegration
      yield* faults.set(preset.fault, {
        endpoint: form.endpoint === "" ? undefined : form.endpoint,
        integrationId: integration?.id,
        tenantId: integration?.tenantId,
        times: form.times === "" ? undefined : form.times
      })
      return backTo("faults")
    })
  )

// ---------------------------------------------------------------------------------------------------------------------
// The page
// ---------------------------------------------------------------------------------------------------------------------

interface Shown {
  readonly firstTenant: string
  readonly now: DateTime.Utc
  readonly tenants: ReadonlyArray<{ readonly id: string; readonly integrations: ReadonlyArray<EmulatedIntegration> }>
  readonly faults: ReadonlyArray<SetFault>
  readonly requests: ReadonlyArray<EmulatorRequest>
}

const gather = ({ faults, firstTenant, log, registry }: ConsoleOptions): Effect.Effect<Shown> =>
  Effect.all({
    firstTenant: Effect.succeed(firstTenant),
    now: serverNow,
    tenants: allOf(registry),
    faults: faults.list,
    requests: log.requests
  })

/** How many requests are shown. */
const shownRequests = 50

const page = (shown: Shown) => {
  const integrations = shown.tenants.flatMap((tenant) => tenant.integrations)
  const connected = integrations.filter(({ status }) => status !== "requires_reauth").length
  return Page.respond({
    title: "Aden emulator",
    script,
    body: html`
<body>
<header>
<h1>Aden emulator</h1>
<p id="summary" role="status" aria-live="polite" data-live>${connected} of ${integrations.length} integrations are connected.
${shown.faults.length === 0 ? "No faults" : counted(shown.faults.length, "fault")} set.</p>
<p class="quiet"><span id="liveness" role="status" aria-live="polite">As of when the page was loaded.</span>
<a href="${Page.consolePath}">Refresh</a></p>
</header>
<main>
<section aria-labelledby="integrations">
<h2 id="integrations" tabindex="-1">Integrations</h2>
<div id="tenants" data-live>${shown.tenants.map((tenant) => tenantTable(tenant, shown))}</div>
</section>
<section aria-labelledby="faults">
<h2 id="faults" tabindex="-1">Faults</h2>
<div id="faults-set" data-live>${faultList(shown)}</div>
${faultForm(integrations)}
</section>
<section aria-labelledby="requests">
<h2 id="requests" tabindex="-1">Last requests</h2>
<div id="requests-made" data-live>${requestTable(shown.requests)}</div>
</section>
</main>
</body>`
  })
}

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

const tenantTable = ({ id, integrations }: Shown["tenants"][number], { firstTenant, now }: Shown) =>
  html`<div class="scroll"><table>
<caption>Tenant ${Page.name(id)}</caption>
<thead><tr><th scope="col">Integration</th><th scope="col">Status</th><th scope="col">Token expires</th>
<th scope="col">Change</th></tr></thead>
<tbody>${
    integrations.length === 0
      ? html`<tr><td colspan="4">None.</td></tr>`
      : integrations.map((integration) => integrationRow(integration, firstTenant, now))
  }</tbody>
</table></div>`

const integrationRow = (integration: EmulatedIntegration, firstTenant: string, now: DateTime.Utc) => {
  const { alias, email, id, status, token, type } = integration
  const about = [type === id ? undefined : type, alias, email].filter((text) => text !== undefined)
  return html`
<tr id="${rowOf(integration)}" tabindex="-1">
<th scope="row"><a href="${connectPage.connectPath(integration, firstTenant)}">${Page.name(id)}</a>${
    about.length === 0 ? undefined : html` <span class="quiet">${Page.name(about.join(", "))}</span>`
  }</th>
<td>${
    status === "requires_reauth"
      ? html`<span class="bad">needs a person to connect it</span>`
      : token !== undefined && isExpired(token, now)
      ? html`expired; Aden refreshes it`
      : html`<span class="good">connected</span>`
  }</td>
<td>${token === undefined ? "no token" : html`${expiryText(token.expiresAt, now)}`}</td>
<td>${
    status === "requires_reauth"
      ? button(paths.connect, "Connect", integration)
      : button(paths.disconnect, "Disconnect", integration)
  }</td>
</tr>`
}

const button = (path: string, label: string, integration: EmulatedIntegration) =>
  html`<form method="post" action="${path}"><input type="hidden" name="integration" value="${
    keyOf(integration)
  }"><button>${label}<span class="hidden"> ${cleanText(integration.id)}</span></button></form>`

const faultList = ({ faults, tenants }: Shown) => {
  if (faults.length === 0) return html`<p>None: requests are answered normally.</p>`
  return html`<ul class="faults">${
    faults.map((set) => {
      const label = faultLabel(set.fault)
      return html`<li><span>${label} <span class="quiet">(${faultScope(set, tenants.length > 1)})</span></span>
<form method="post" action="${paths.endFault}"><input type="hidden" name="fault" value="${set.number}"><button>End<span
class="hidden"> ${label}</span></button></form></li>`
    })
  }</ul>
<form method="post" action="${paths.endAllFaults}"><button>End all faults</button></form>`
}

const faultScope = ({ left, match }: SetFault, severalTenants: boolean) => {
  const endpoints = match.endpoint === undefined ? "every request" : [match.endpoint].flat().join(", ")
  return html`${endpoints}${
    match.integrationId === undefined ? undefined : html` for ${Page.name(match.integrationId)}`
  }${match.tenantId === undefined || !severalTenants ? undefined : html` of ${Page.name(match.tenantId)}`}${
    Number.isFinite(left) ? `, ${counted(left, "more time")}` : ""
  }`
}

const field = (label: string, control: (id: string) => Html) => {
  const id = `field-${label.toLowerCase().replaceAll(" ", "-")}`
  return html`<div class="field"><label for="${id}">${label}</label>${control(id)}</div>`
}

const faultForm = (integrations: ReadonlyArray<EmulatedIntegration>) =>
  html`
<h3>Set a fault</h3>
<form class="fields" method="post" action="${paths.setFault}">
${
    field(
      "What happens",
      (id) =>
        html`<select id="${id}" name="fault">${
          [...faultPresets].map(([key, { label }]) => html`<option value="${key}">${label}</option>`)
        }</select>`
    )
  }
${
    field(
      "To requests",
      (id) =>
        html`<select id="${id}" name="endpoint"><option value="">any</option>${
          endpointsOfAden.map((endpoint) => html`<option>${endpoint}</option>`)
        }</select>`
    )
  }
${
    field(
      "For integration",
      (id) =>
        html`<select id="${id}" name="integration"><option value="">any</option>${
          integrations.map((integration) =>
            html`<option value="${keyOf(integration)}">${cleanText(integration.id)} (${
              cleanText(integration.tenantId)
            })</option>`
          )
        }</select>`
    )
  }
${
    field(
      "How many times",
      (id) =>
        html`<input id="${id}" name="times" type="number" min="1" max="${maximumTimes}" placeholder="until ended">`
    )
  }
<button>Set fault</button>
</form>`

const requestTable = (requests: ReadonlyArray<EmulatorRequest>): Html => {
  if (requests.length === 0) return html`<p>None yet.</p>`
  return html`<p>${counted(requests.length, "request")} in the log, newest first.</p>
<div class="scroll" role="region" aria-labelledby="requests" tabindex="0"><table class="requests">
<thead><tr><th scope="col">Time (UTC)</th><th scope="col">Request</th><th scope="col">Answer</th>
<th scope="col">Faults</th></tr></thead>
<tbody>${
    requests.slice(-shownRequests).toReversed().map(({ faults, method, path, status, time }) => {
      const iso = DateTime.formatIso(time)
      return html`
<tr><td><time datetime="${iso}">${iso.slice(11, 19)}</time></td>
<td class="path"><code>${method} ${cleanText(path)}</code></td>
<td>${status === undefined ? "none" : status}</td><td>${faults.join(", ")}</td></tr>`
    })
  }</tbody>
</table></div>`
}

/**
 * Fetches the page every second and applies what differs, node by node, so that the focus stays where it is. A table gets new
 * text rather than new rows, so that a screen reader keeps its place.
 */
const script = `
const liveness = document.getElementById("liveness")
const say = (text) => { if (liveness.textContent !== text) liveness.textContent = text }
const alike = (shown, fresh) => shown.nodeType === fresh.nodeType && shown.nodeName === fresh.nodeName &&
  shown.childNodes.length === fresh.childNodes.length && shown.childNodes.length > 0 &&
  shown.cloneNode(false).isEqualNode(fresh.cloneNode(false))
const take = (shown, fresh) => {
  if (shown.isEqualNode(fresh)) return
  if (!alike(shown, fresh)) return shown.replaceWith(fresh)
  const nodes = [...fresh.childNodes]
  for (const [index, node] of [...shown.childNodes].entries()) take(node, nodes[index])
}
const update = async () => {
  try {
    const response = await fetch("/")
    const page = new DOMParser().parseFromString(await response.text(), "text/html")
    for (const shown of document.querySelectorAll("[data-live]")) take(shown, page.getElementById(shown.id))
    say("This page updates every second.")
  } catch {
    say("The emulator does not answer. This is its last known state.")
  }
}
const live = async () => {
  if (!document.hidden) await update()
  setTimeout(live, 1000)
}
live()
`
