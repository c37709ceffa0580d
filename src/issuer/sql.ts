// What the issuer asks of a database. Statements are written once, with $1, $2, … for values, in the words that SQLite and
// PostgreSQL share; the two openers below differ in nothing that a caller sees.

export type SqlValue = string | number | Uint8Array | null
export type Row = Readonly<Record<string, SqlValue>>

/** Statements inside one transaction. */
export interface Statements {
  /** The rows of a statement; integers are numbers, bytes are Uint8Arrays. */
  all<R = Row>(text: string, values?: readonly SqlValue[]): Promise<R[]>
}

export interface Sql extends Statements {
  readonly dialect: 'sqlite' | 'postgres'
  /**
   * Runs statements all together or not at all. What `run` throws undoes them and is thrown on. A transaction that lost
   * against another is run again. Throws StoreError when the database cannot be reached or cannot write.
   */
  transaction<T>(run: (statements: Statements) => Promise<T>, isolation?: 'snapshot'): Promise<T>
  close(): Promise<void>
}

/** The database does not answer, or cannot write. Whether the last transaction was kept may be unknown. */
export class StoreError extends Error {
  constructor(cause: unknown) {
    super(`use the database: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.name = 'StoreError'
  }
}

/** How many parameters a statement of `rows` rows of `columns` values has: `($1,$2),($3,$4)`. */
export function rowsOf(rows: number, columns: number): string {
  const row = (at: number) => `(${Array.from({ length: columns }, (_, i) => `$${at * columns + i + 1}`).join(',')})`
  return Array.from({ length: rows }, (_, at) => row(at)).join(',')
}
