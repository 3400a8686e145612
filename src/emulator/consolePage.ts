/**
 * The console: what the emulator knows, for a person to see and to change. It shows no token and no API key.
 *
 * What is asked here is not logged: the console would show itself, and push out what a program asked.
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
import { type Html, html } from "./Html.ts"
import { type EmulatedIntegration, type IntegrationRegistry, isExpired } from "./IntegrationRegistry.ts"
import * as Page from "./Page.ts"
import { faultLabel, pickedFaults } from "./pickedFaults.ts"
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
  fault: Schema.Literals([...pickedFaults.keys()]),
  endpoint: Schema.Literals(["", ...endpointsOfAden]),
  integration: Schema.String,
  times: Schema.Union([
    Schema.Literal(""),
    Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 1, maximum: maximumTimes }))
  ])
})

/** What became of a form, or a page that says that it was not understood. */
const submitted = <A, I extends Readonly<Record<string, string>>>(
  schema: Schema.Codec<A, I>,
  act: (form: A) => Effect.Effect<HttpServerResponse.HttpServerResponse>
): Page.PageAnswer =>
  Effect.matchEffect(schemaBodyUrlParams(schema), {
    onFailure: () =>
      Effect.succeed(
        Page.message(400, "Not understood", html`<p>Nothing was changed: a field is missing or wrong.</p>`)
      ),
    onSuccess: act
  })

/** The console again, at this part of it; a reload does not send the form anew. */
const backTo = (part: string) => HttpServerResponse.redirect(`${Page.consolePath}#${part}`, { status: 303 })

// ids can be any text: line breaks, and names of folders, would not come back from a form or a path as they went
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
  html`<p>Nothing was changed: the emulator has no such integration any more.</p>`
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
      const picked = pickedFaults.get(form.fault)
      if (picked === undefined || (integration === undefined && form.integration !== "")) return unknownIntegration
      yield* faults.set(picked.fault, {
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
<p class="quiet"><span id="liveness" role="status" aria-live="polite">This is how things stood when the page was loaded.</span>
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
      ? html`expired; Aden renews it`
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
  if (faults.length === 0) return html`<p>None: requests are answered as they should be.</p>`
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
          [...pickedFaults].map(([key, { label }]) => html`<option value="${key}">${label}</option>`)
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
  return html`<p>${counted(requests.length, "request")} in the log, the newest first.</p>
<div class="scroll" role="region" aria-labelledby="requests" tabindex="0"><table class="requests">
<thead><tr><th scope="col">Time (UTC)</th><th scope="col">Request</th><th scope="col">Answer</th>
<th scope="col">Faults met</th></tr></thead>
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
 * Asks for the page each second and takes over what differs, node by node: what has the focus keeps it. A table gets new text
 * rather than new rows, so that a reader is not moved.
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
    say("This page is up to date, each second.")
  } catch {
    say("The emulator does not answer; this is how things stood.")
  }
}
const live = async () => {
  if (!document.hidden) await update()
  setTimeout(live, 1000)
}
live()
`
