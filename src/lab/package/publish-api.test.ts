import assert from 'node:assert/strict'
import test from 'node:test'
import { breakingChanges } from '#api/breaking.ts'
import { openApiDocument } from '#api/openapi.ts'
import { publishedApi } from './publish-api.ts'

test('nothing that is published in docs/openapi.json breaks', () => {
  assert.deepEqual(breakingChanges(publishedApi(), openApiDocument()), [])
})

test('docs/openapi.json has everything that the table has: npm run api writes it', () => {
  assert.deepEqual(publishedApi(), JSON.parse(JSON.stringify(openApiDocument())))
})
