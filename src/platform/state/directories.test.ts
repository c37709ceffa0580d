import assert from 'node:assert/strict'
import path from 'node:path'
import test from 'node:test'
import { siblingModule } from '../module-url.ts'
import { configFile, socketPath, stateDirectory } from './directories.ts'

function withEnvironment<T>(values: Record<string, string | undefined>, run: () => T): T {
  const before = { ...process.env }
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  try {
    return run()
  } finally {
    process.env = before
  }
}

test('the state directory is the flag, else the environment, else the platform custom', () => {
  withEnvironment({ HOPLITE_STATE_DIR: '/from/environment' }, () => {
    assert.equal(stateDirectory('/from/flag'), path.resolve('/from/flag'))
    assert.equal(stateDirectory(), path.resolve('/from/environment'))
  })
  withEnvironment({ HOPLITE_STATE_DIR: undefined }, () => {
    assert.match(stateDirectory(), /hoplite/i)
    assert.ok(path.isAbsolute(stateDirectory()))
  })
})

test('a configuration file that is named is used even if it is missing: then it is an error, not the defaults', () => {
  withEnvironment({ HOPLITE_CONFIG: '/from/environment.toml' }, () => {
    assert.equal(configFile('/from/flag.toml'), path.resolve('/from/flag.toml'))
    assert.equal(configFile(), path.resolve('/from/environment.toml'))
  })
})

test('the control socket fits into a socket address, however long the directory', {
  skip: process.platform === 'win32',
}, () => {
  assert.equal(socketPath('/var/lib/hoplite'), '/var/lib/hoplite/control.sock')
  const long = socketPath(`/${'deep/'.repeat(40)}a`)
  assert.ok(Buffer.byteLength(long) <= 107, long)
  assert.notEqual(long, socketPath(`/${'deep/'.repeat(40)}b`))
  assert.notEqual(socketPath(`/a/${'deep/'.repeat(40)}`), socketPath(`/b/${'deep/'.repeat(40)}`))
})

test('a sibling module has the ending of the module that names it', () => {
  assert.equal(siblingModule('file:///a/src/x.ts', './worker').href, 'file:///a/src/worker.ts')
  assert.equal(siblingModule('file:///a/dist/x.js', '../b/main').href, 'file:///a/b/main.js')
})
