// What a service manager is told of a node: a unit of systemd, for the whole system or for one user, or a launchd job.
//
// A system service of systemd needs no user made for it (DynamicUser) and holds no privilege: its state directory is all it may
// write, and Node's permission model says the same a second time. What a sandbox can take from a process with a compiler in it
// is taken; MemoryDenyWriteExecute cannot be.
//
// One with a tunnel begins as root, as the helper that makes it, with the capabilities for that; the node itself is the helper's
// child, and gives them all up (platform/linux/helper/daemon-user.ts). A client's helper lives in the file system as it is: what it
// mounts over /etc/resolv.conf would be seen by nobody else.

import { nodePermissions } from '#platform/linux/helper/daemon-user.ts'

export const ROLES = ['client', 'relay', 'peer', 'bootstrap'] as const
export type ServiceRole = (typeof ROLES)[number]

export interface Service {
  readonly role: ServiceRole
  readonly scope: 'system' | 'user'
  /** Program and first arguments that are the command `hoplite`, absolute. */
  readonly command: readonly string[]
  readonly config?: string
  /** Of a system service, below /var/lib: `hoplite`, `hoplite-relay` and so on. */
  readonly stateDir: string
  readonly exit?: boolean
  /** A client that the whole machine goes through, or with `exit` a relay that whole machines leave through. */
  readonly tun?: boolean
  /** More words for the command. */
  readonly words?: readonly string[]
}

/** The name of the service: `hoplite` for the client, `hoplite-relay` and so on. */
export function serviceName(role: ServiceRole): string {
  return role === 'client' ? 'hoplite' : `hoplite-${role}`
}

/** The unit file for systemd 247 or newer. */
export function systemdUnit(service: Service): string {
  const { role, scope } = service
  const unit = [
    `Description=Hoplite, ${role === 'bootstrap' ? 'bootstrap node' : role}`,
    'Wants=network-online.target',
    'After=network-online.target',
    // Five failures within two minutes are no accident: it stays down and says so.
    'StartLimitIntervalSec=120',
    'StartLimitBurst=5',
  ]
  const run = [
    'Type=notify',
    // Of a tunnel the main process is the helper, and its child says how it is.
    `NotifyAccess=${service.tun ? 'all' : 'main'}`,
    ...(service.tun ? ['KillMode=mixed'] : []),
    // A control plane that hangs for so long does not come back by itself.
    'WatchdogSec=30',
    `ExecStart=${[...service.command, ...wordsOf(service)].map(quoteForSystemd).join(' ')}`,
    `ExecReload=${[...service.command, 'reload', '--state-dir', service.stateDir].map(quoteForSystemd).join(' ')}`,
    'TimeoutStartSec=60',
    'Restart=on-failure',
    'RestartSec=1',
    'TimeoutStopSec=20',
    'NoNewPrivileges=yes',
    'UMask=0077',
  ]
  const target = scope === 'system' ? 'multi-user.target' : 'default.target'
  return (
    section('Unit', unit) +
    section('Service', [...run, ...(scope === 'system' ? sandboxOf(service) : [])]) +
    section('Install', [`WantedBy=${target}`])
  )
}

/** The property list for launchd. */
export function launchdJob(service: Service): string {
  const string = (text: string) => `<string>${text.replace(/[&<>]/g, sign => `&#${sign.charCodeAt(0)};`)}</string>`
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">',
    '<plist version="1.0">',
    '<dict>',
    `  <key>Label</key>${string(`org.hoplite.${service.role}`)}`,
    '  <key>ProgramArguments</key>',
    // launchd starts again what has ended, and has no watchdog.
    `  <array>${[...service.command, 'keep', '--', ...wordsOf(service)].map(string).join('')}</array>`,
    '  <key>RunAtLoad</key><true/>',
    '  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>',
    '  <key>ThrottleInterval</key><integer>10</integer>',
    '  <key>Umask</key><integer>63</integer>',
    '</dict>',
    '</plist>',
    '',
  ].join('\n')
}

function wordsOf({ role, config, stateDir, exit, tun, words = [] }: Service): string[] {
  return [
    role === 'client' ? 'daemon' : role,
    ...(config === undefined ? [] : ['--config', config]),
    ...['--state-dir', stateDir],
    ...(exit ? ['--exit'] : []),
    ...(tun ? ['--tun'] : []),
    ...words,
  ]
}

/** What the helper does needs: routes and firewall, a mount, another user, and files that are that one's. */
export const HELPER_CAPABILITIES = [
  ...['CAP_NET_ADMIN', 'CAP_SYS_ADMIN', 'CAP_SETUID', 'CAP_SETGID', 'CAP_SETPCAP'],
  ...['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'],
]

function sandboxOf(service: Service): string[] {
  return service.tun ? helperSandbox(service) : sandbox(service)
}

function helperSandbox({ role, exit }: Service): string[] {
  const name = serviceName(role)
  return [
    `StateDirectory=${name} ${name}.network`,
    'StateDirectoryMode=0700',
    `CapabilityBoundingSet=${HELPER_CAPABILITIES.join(' ')}`,
    'LimitNOFILE=65536',
    'TasksMax=256',
    'DevicePolicy=closed',
    'DeviceAllow=/dev/net/tun rw',
    ...(exit ? ['ProtectSystem=strict', 'ProtectHome=yes', 'PrivateTmp=yes', 'ProtectKernelModules=yes'] : []),
    'ProtectHostname=yes',
    'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK',
    'RestrictNamespaces=mnt',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'LockPersonality=yes',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service @mount',
    'SystemCallErrorNumber=EPERM',
  ]
}

function sandbox({ role, stateDir }: Service): string[] {
  // A client's parts, its VPN and what it shares, are processes of their own, under the same restrictions.
  const permissions = [...nodePermissions(stateDir), ...(role === 'client' ? ['--allow-child-process'] : [])]
  return [
    `Environment="NODE_OPTIONS=${permissions.join(' ')}"`,
    'DynamicUser=yes',
    `StateDirectory=${serviceName(role)}`,
    'StateDirectoryMode=0700',
    'CapabilityBoundingSet=',
    'LimitNOFILE=65536',
    'TasksMax=256',
    'ProtectSystem=strict',
    'ProtectHome=yes',
    'PrivateTmp=yes',
    'PrivateDevices=yes',
    'ProtectClock=yes',
    'ProtectControlGroups=yes',
    'ProtectHostname=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    'ProtectProc=invisible',
    'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK',
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'LockPersonality=yes',
    'RemoveIPC=yes',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service',
    'SystemCallErrorNumber=EPERM',
  ]
}

function section(name: string, lines: readonly string[]): string {
  return `[${name}]\n${lines.join('\n')}\n${name === 'Install' ? '' : '\n'}`
}

/** systemd.service(5), "Command lines": %, $ and quotes have meanings. */
function quoteForSystemd(word: string): string {
  const escaped = word.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w@%+=:,./$-]+$/.test(word) ? escaped : `"${escaped.replace(/["\\]/g, '\\$&')}"`
}
