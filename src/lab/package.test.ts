import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makePackage } from './package.ts'
import { hasTool, skipUnless } from './skip.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const run = promisify(execFile)

test('the packed tarball, installed in an empty project, gives the command and the library', async t => {
  if (skipUnless(t, hasTool('npm'), 'npm is not installed', { tool: 'npm' })) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-package-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const tarball = makePackage(folder)
  const project = path.join(folder, 'project')
  mkdirSync(project)
  writeFileSync(path.join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }))
  const inProject = { cwd: project, env: { ...process.env, NODE_OPTIONS: '' }, maxBuffer: 16 * 1024 * 1024 }
  try {
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], inProject)
  } catch (error) {
    const { stderr } = error as { stderr: string }
    const isOffline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENOTCACHED|ETIMEDOUT/.test(stderr)
    if (!isOffline) throw error
    if (skipUnless(t, false, 'the package registry cannot be reached', { tool: 'a registry or a mirror' })) return
  }
  const installed = path.join(project, 'node_modules', 'hoplite')
  const hoplite = path.join(project, 'node_modules', '.bin', 'hoplite')

  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }
  assert.equal((await run(hoplite, ['--version'], inProject)).stdout, `${version}\n`)
  assert.ok(existsSync(path.join(installed, 'dist', 'cli', 'main.js')))
  assert.ok(!existsSync(path.join(installed, 'src')), 'no TypeScript to strip under node_modules')
  assert.ok(existsSync(path.join(installed, 'LICENSE')))

  const stateDir = path.join(folder, 'state')
  const keys = await run(hoplite, ['keygen', '--json', '--state-dir', stateDir], inProject)
  assert.match((JSON.parse(keys.stdout) as { id: string }).id, /^[0-9a-f]{64}$/)

  const doctor = await run(hoplite, ['doctor', '--json', '--state-dir', stateDir], inProject)
  const { findings } = JSON.parse(doctor.stdout) as { findings: { check: string; verdict: string }[] }
  for (const check of ['runtime', 'sodium-native', 'udx-native', 'state'])
    assert.equal(findings.find(finding => finding.check === check)?.verdict, 'ok', check)

  const program = `
    import { callAction, defaultConfig, HopliteError, parseConfig, runClient, runRelay, type Status, VERSION } from 'hoplite'
    const hops: number = parseConfig('[client]\\nhops = 2', 'inline').client.hops
    const ask = (): Promise<Status> => callAction('/nowhere/control.sock', 'status', {})
    const error = await ask().catch((error: unknown) => error as HopliteError)
    const code: string = error instanceof HopliteError ? error.code : 'none'
    console.log(JSON.stringify([VERSION, hops, code, typeof runClient, typeof runRelay, defaultConfig().client.hops]))
  `
  writeFileSync(path.join(project, 'program.ts'), program)
  const node = [path.join(ROOT, 'bin', 'node.cjs'), 'program.ts']
  const library = await run(process.execPath, node, inProject)
  assert.deepEqual(JSON.parse(library.stdout), [version, 2, 'DAEMON_NOT_RUNNING', 'function', 'function', 3])

  const compiler = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const types = ['--typeRoots', path.join(ROOT, 'node_modules', '@types'), '--types', 'node']
  const strict = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--skipLibCheck']
  await run(process.execPath, [compiler, ...strict, ...types, 'program.ts'], inProject).catch(error =>
    assert.fail(`the declarations do not hold: ${(error as { stdout: string }).stdout}`),
  )
})
