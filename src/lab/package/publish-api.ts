// `npm run api`: writes the OpenAPI document of the table to docs/openapi.json, which is what is published. A change that
// breaks programs is refused: it needs another version in every path.

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { breakingChanges } from '#api/breaking.ts'
import { type OpenApiDocument, openApiDocument } from '#api/openapi.ts'

const FILE = fileURLToPath(new URL('../../../docs/openapi.json', import.meta.url))

/** What is published now. */
export function publishedApi(): OpenApiDocument {
  return JSON.parse(readFileSync(FILE, 'utf8')) as OpenApiDocument
}

if (import.meta.main) {
  const document = openApiDocument()
  const broken = breakingChanges(publishedApi(), document)
  if (broken.length > 0) {
    process.stderr.write(`Not written: this breaks programs that use the API.\n  ${broken.join('\n  ')}\n`)
    process.exit(1)
  }
  writeFileSync(FILE, `${JSON.stringify(document, undefined, 2)}\n`)
  process.stdout.write(`${FILE}\n`)
}
