// `npm ci` refuses a lock file that lacks an optional package of another platform. A registry that does not have those
// packages makes npm write such a lock file without a word.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'

interface Entry {
  readonly version?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8'))
const { packages } = read('package-lock.json') as { packages: Readonly<Record<string, Entry>> }

test('the lock file has every optional package, for every platform', () => {
  const missing = Object.entries(packages).flatMap(([at, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      name => !(`node_modules/${name}` in packages || `${at}/node_modules/${name}` in packages),
    ),
  )
  assert.deepEqual(missing, [])
})

test('the lock file and package.json name the same libraries, in exact versions', () => {
  const manifest = read('package.json') as Entry
  assert.deepEqual(packages['']?.dependencies, manifest.dependencies)
  assert.deepEqual(packages['']?.devDependencies, manifest.devDependencies)
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }))
    assert.equal(packages[`node_modules/${name}`]?.version, version, name)
})
