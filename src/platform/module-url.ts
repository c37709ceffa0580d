// Modules that are loaded by address (workers) end in .ts in the repository and in .js in the published package.

/** The address of a module beside `own` (an `import.meta.url`), named without its ending. */
export function siblingModule(own: string, name: string): URL {
  return new URL(name + (own.endsWith('.ts') ? '.ts' : '.js'), own)
}
