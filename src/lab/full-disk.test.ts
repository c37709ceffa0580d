import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { FullDiskReport } from './full-disk-process.ts'
import { hasTool, skipUnless } from './skip.ts'

const PROCESS = fileURLToPath(new URL('./full-disk-process.ts', import.meta.url))
const SIZE = '512k'
const VOUCHER = 40

test('on a full disk a wallet asks and shows nothing, a relay takes nothing, and no credit is lost', async t => {
  if (skipUnless(t, process.platform === 'linux' && process.getuid?.() === 0, 'it takes root and Linux to mount'))
    return
  if (skipUnless(t, hasTool('unshare'), 'unshare is not installed', { tool: 'unshare' })) return
  const disk = mkdtempSync(path.join(tmpdir(), 'hoplite-disk-'))
  t.after(() => rmSync(disk, { recursive: true, maxRetries: 3 }))
  const { status } = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', disk], { stdio: 'ignore' })
  if (skipUnless(t, status === 0, 'this machine lets nobody mount')) return
  const script = 'mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@"'
  const command = [process.execPath, '--no-warnings', PROCESS, disk]
  const { stdout } = await promisify(execFile)('unshare', ['--mount', 'sh', '-c', script, 'sh', SIZE, disk, ...command])
  const report = JSON.parse(stdout) as FullDiskReport
  t.diagnostic(stdout.trim())
  assert.equal(report.withdrawal, 'STATE_UNREADABLE')
  assert.equal(report.deposit, 'STATE_UNREADABLE')
  assert.equal(report.taken, 'unwritten')
  assert.equal(report.shown, false)
  assert.equal(report.isWritten, false)
  assert.equal(report.takenLater, 'taken')
  assert.equal(report.redeemed, 1)
  assert.equal(report.tokens + report.redeemed, VOUCHER)
  assert.deepEqual(report.faults, [])
})
