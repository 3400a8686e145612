/** A plot over time as SVG, in the light or dark scheme of the reader. */

export interface LinePlot {
  readonly title: string
  readonly subtitle: string
  readonly xLabel: string
  readonly yLabel: string
  readonly lines: ReadonlyArray<Line>
  /** Levels to compare with, across the whole plot. */
  readonly levels: ReadonlyArray<{ readonly y: number; readonly label: string }>
  /** A span of time with a label. */
  readonly span: { readonly from: number; readonly until: number; readonly label: string } | undefined
}

export interface Line {
  readonly label: string
  readonly color: "blue" | "green" | "red"
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

const width = 860
const height = 380
const plot = { left: 66, right: width - 20, top: 84, bottom: height - 52 }

const style = `
  svg { color-scheme: light dark; }
  .ground { fill: #ffffff; } .span { fill: #eaeef2; } .grid { stroke: #d8dee4; stroke-width: 1; }
  .level { stroke: #57606a; stroke-width: 1.2; stroke-dasharray: 6 4; }
  text { font: 12px system-ui, sans-serif; fill: #424a53; } .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
  .blue { stroke: #0969da; } .green { stroke: #1a7f37; } .red { stroke: #cf222e; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } .span { fill: #21262d; } .grid { stroke: #30363d; } .level { stroke: #9198a1; }
    text { fill: #b1bac4; } .title { fill: #f0f6fc; }
    .blue { stroke: #4493f8; } .green { stroke: #3fb950; } .red { stroke: #f85149; }
  }
`

export const linePlot = (options: LinePlot): string => {
  const { levels, lines, span, subtitle, title, xLabel, yLabel } = options
  const xs = lines.flatMap(({ points }) => points.map(([x]) => x))
  const ys = [...lines.flatMap(({ points }) => points.map(([, y]) => y)), ...levels.map(({ y }) => y)]
  const [first, last] = [largest(xs.map((x) => -x)) * -1, largest(xs)]
  const yTicks = ticksUpTo(largest(ys))
  const top = yTicks.at(-1) ?? 1
  const xOf = (x: number) => plot.left + (x - first) / (last - first) * (plot.right - plot.left)
  const yOf = (y: number) => plot.bottom - y / top * (plot.bottom - plot.top)

  const parts = [
    `<rect class="ground" width="${width}" height="${height}"/>`,
    text(plot.left, 26, title, "title"),
    text(plot.left, 46, subtitle)
  ]
  if (span !== undefined) {
    const [from, until] = [xOf(span.from), xOf(span.until)]
    parts.push(
      `<rect class="span" x="${at(from)}" y="${plot.top}" width="${at(until - from)}" height="${
        plot.bottom - plot.top
      }"/>`,
      text((from + until) / 2, plot.top + 14, span.label, undefined, "middle")
    )
  }
  for (const tick of yTicks) {
    const y = yOf(tick)
    parts.push(
      `<line class="grid" x1="${plot.left}" x2="${plot.right}" y1="${at(y)}" y2="${at(y)}"/>`,
      text(plot.left - 8, y + 4, tick.toLocaleString("en"), undefined, "end")
    )
  }
  for (let x = Math.ceil(first / 10) * 10; x <= last; x += 10) {
    parts.push(text(xOf(x), plot.bottom + 18, String(x), undefined, "middle"))
  }
  parts.push(text((plot.left + plot.right) / 2, height - 12, xLabel, undefined, "middle"))
  const middle = (plot.top + plot.bottom) / 2
  parts.push(
    `<text text-anchor="middle" transform="translate(16 ${at(middle)}) rotate(-90)">${escaped(yLabel)}</text>`
  )
  for (const { label, y } of levels) {
    const level = at(yOf(y))
    parts.push(
      `<line class="level" x1="${plot.left}" x2="${plot.right}" y1="${level}" y2="${level}"/>`,
      text(plot.right - 4, yOf(y) - 5, label, undefined, "end")
    )
  }
  let legend = plot.left
  for (const { color, label, points } of lines) {
    const path = points.map(([x, y]) => `${at(xOf(x))},${at(yOf(y))}`).join(" ")
    parts.push(
      `<polyline class="${color}" points="${path}"/>`,
      `<polyline class="${color}" points="${at(legend)},62 ${at(legend + 20)},62"/>`,
      text(legend + 26, 66, label)
    )
    legend += 50 + label.length * 6.6
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
    escaped(title)
  }">\n<style>${style}</style>\n${parts.join("\n")}\n</svg>\n`
}

/** Round numbers from zero up to the first one that is at least the largest value. */
const ticksUpTo = (value: number): ReadonlyArray<number> => {
  const rough = Math.max(value, 1e-9) / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power
  return Array.from({ length: Math.ceil(value / step) + 1 }, (_, index) => Number((index * step).toPrecision(6)))
}

const largest = (numbers: ReadonlyArray<number>): number =>
  numbers.reduce((most, item) => Math.max(most, item), -Infinity)

const at = (number: number): string => String(Math.round(number * 10) / 10)

const text = (x: number, y: number, content: string, name?: string, anchor?: "middle" | "end"): string => {
  const look = `${name === undefined ? "" : ` class="${name}"`}${
    anchor === undefined ? "" : ` text-anchor="${anchor}"`
  }`
  return `<text x="${at(x)}" y="${at(y)}"${look}>${escaped(content)}</text>`
}

const escaped = (content: string): string =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("\"", "&quot;")
