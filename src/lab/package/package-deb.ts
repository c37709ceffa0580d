// The Debian package: the tree in /usr/lib/hoplite, the command, services that are not started by themselves, completion.

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ROLES, serviceName, systemdUnit } from '#cli/service-units.ts'

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
const CONFIG = '/etc/hoplite/hoplite.toml'
const COMMAND = '/usr/bin/hoplite'
const LAUNCHER = `#!/bin/sh
exec /usr/lib/hoplite/bin/node --no-warnings --max-semi-space-size=2 /usr/lib/hoplite/dist/cli/main.js "$@"
`
const COMPLETIONS = {
  bash: 'usr/share/bash-completion/completions/hoplite',
  zsh: 'usr/share/zsh/vendor-completions/_hoplite',
  fish: 'usr/share/fish/vendor_completions.d/hoplite.fish',
}
const FIRST_CONFIG = `# Every key: /usr/share/doc/hoplite/docs/configuration.md

[network]
bootstrap = []
`

/** Packs `tree` into `folder`/hoplite_VERSION_ARCH.deb and returns its path. Needs dpkg-deb. */
export function makeDebianPackage(tree: string, version: string, folder: string): string {
  const root = path.join(folder, 'debian')
  rmSync(root, { recursive: true, force: true })
  const write = (name: string, text: string, mode = 0o644) => {
    const file = path.join(root, name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, text)
    chmodSync(file, mode)
  }
  cpSync(tree, path.join(root, 'usr/lib/hoplite'), { recursive: true })
  write(COMMAND, LAUNCHER, 0o755)
  write(CONFIG, FIRST_CONFIG)
  for (const role of ROLES) {
    const stateDir = `/var/lib/${serviceName(role)}`
    const unit = systemdUnit({ role, scope: 'system', command: [COMMAND], config: CONFIG, stateDir })
    write(`usr/lib/systemd/system/${serviceName(role)}.service`, unit)
  }
  const main = path.join(tree, 'dist', 'cli', 'main.js')
  for (const [shell, file] of Object.entries(COMPLETIONS))
    write(file, execFileSync(process.execPath, ['--no-warnings', main, 'completion', shell], { encoding: 'utf8' }))
  mkdirSync(path.join(root, 'usr/share/doc/hoplite'), { recursive: true })
  copyFileSync(path.join(tree, 'LICENSE'), path.join(root, 'usr/share/doc/hoplite/copyright'))
  symlinkSync('../../../../lib/hoplite/docs', path.join(root, 'usr/share/doc/hoplite/docs'))
  write('DEBIAN/conffiles', `${CONFIG}\n`)
  write('DEBIAN/control', control(version))
  const file = path.join(folder, `hoplite_${version}_${architecture()}.deb`)
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z3', '--build', root, file], { stdio: 'pipe' })
  rmSync(root, { recursive: true })
  return file
}

function control(version: string): string {
  return [
    'Package: hoplite',
    `Version: ${version}`,
    `Architecture: ${architecture()}`,
    'Maintainer: The Hoplite authors <hoplite@localhost>',
    'Section: net',
    'Priority: optional',
    'Depends: libc6 (>= 2.28), libstdc++6',
    'Recommends: iproute2, nftables',
    'Description: VPN whose users cover each other',
    ' Packets travel through relays that other people run, so that no single machine',
    ' knows both who you are and where you go.',
    '',
  ].join('\n')
}

function architecture(): string {
  return ARCHITECTURES[process.arch] ?? process.arch
}
