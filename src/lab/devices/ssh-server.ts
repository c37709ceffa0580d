// An ssh server with keys of its own on one host of the laboratory, and how a client of another reaches it.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Host } from '../netns.ts'

const SSHD = '/usr/sbin/sshd'
const CLIENTS = ['/usr/bin/ssh', '/usr/bin/ssh-keygen']
/** Where Debian's server looks for its empty directory. */
const EMPTY = '/run/sshd'

/** Whether ssh is installed, its server too. */
export function hasSsh(): boolean {
  return [SSHD, ...CLIENTS].every(existsSync)
}

/** Starts a server on every address; gives the command that has `cat` answer at `to`. Files lie in `folder`. */
export function startSsh(host: Host, port: number, folder: string): (to: string) => readonly string[] {
  const key = (name: string) => {
    const file = path.join(folder, name)
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file])
    return file
  }
  const [hostKey, ownKey] = [key('ssh-host'), key('ssh-own')]
  const hosts = path.join(folder, 'ssh-hosts')
  const authorized = path.join(folder, 'ssh-authorized')
  writeFileSync(hosts, `hoplite ${readFileSync(`${hostKey}.pub`, 'utf8')}`)
  writeFileSync(authorized, readFileSync(`${ownKey}.pub`))
  mkdirSync(EMPTY, { recursive: true, mode: 0o755 })
  const config = path.join(folder, 'sshd.conf')
  const lines = [
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${authorized}`,
    `Port ${port}`,
    'PidFile none',
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'PermitRootLogin prohibit-password',
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  host.start(SSHD, ['-D', '-f', config], { stdio: 'ignore' })
  const checks = ['HostKeyAlias=hoplite', `UserKnownHostsFile=${hosts}`, 'StrictHostKeyChecking=yes', 'BatchMode=yes']
  const options = checks.flatMap(check => ['-o', check])
  return to => ['ssh', '-F', 'none', '-i', ownKey, ...options, '-p', String(port), `root@${to}`, 'cat']
}
