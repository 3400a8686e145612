/**
 * Rows for people and for pipes.
 */
import * as CliOutput from "effect/cli/CliOutput"
import { printable } from "../util/sanitize.ts"
import type { OutputStream, Style } from "./CommandOutput.ts"

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  /** How the cell looks on a terminal. */
  readonly paint?: ((row: Row, style: Style) => (text: string) => string) | undefined
}

/** Aligned columns under titles on a terminal; elsewhere one line per row, with tabs between the cells. */
export const table = <Row>(
  output: OutputStream,
  columns: ReadonlyArray<Column<Row>>,
  rows: ReadonlyArray<Row>
): string => {
  const cells = rows.map((row) => columns.map(({ cell }) => printable(cell(row))))
  if (!output.isTerminal) return cells.map((line) => `${line.join("\t")}\n`).join("")
  const { style } = output
  const widths = columns.map(({ title }, index) =>
    cells.reduce((width, line) => Math.max(width, CliOutput.displayWidth(line[index] ?? "")), title.length)
  )
  const line = (texts: ReadonlyArray<string>, paint: (index: number) => (text: string) => string) =>
    texts.map((text, index) => paint(index)(text) + " ".repeat((widths[index] ?? 0) - CliOutput.displayWidth(text)))
      .join("  ").trimEnd() + "\n"
  return line(columns.map(({ title }) => title), () => style.bold) +
    cells.map((texts, row) =>
      line(texts, (index) => {
        const source = rows[row]
        const paint = columns[index]?.paint
        return source === undefined || paint === undefined ? (text) => text : paint(source, style)
      })
    ).join("")
}

/** The colour of a status. */
export const paintStatus = (status: string, style: Style): (text: string) => string => {
  switch (status) {
    case "active":
    case "fresh":
    case "ok":
    case "synced":
      return style.green
    case "due":
    case "expired":
    case "kept":
    case "skipped":
    case "stale":
    case "warning":
      return style.yellow
    case "failed":
    case "failure":
    case "requires_reauth":
    case "unreadable":
      return style.red
    default:
      return style.dim
  }
}
