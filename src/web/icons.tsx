// Line icons on a grid of 24; they take the colour of the text around them.

import type { JSX } from 'preact'

const PATHS = {
  home: 'M3 11.5 12 4l9 7.5M5.5 10v10h13V10M10 20v-6h4v6',
  route:
    'M5 19a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM19 10a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM7.5 16.500h8a3 3 0 0 0 0-6H9a3 3 0 0 1 0-6h7.5',
  vpn: 'M12 3 4.5 6v5.500c0 4.6 3.1 7.9 7.5 9.5 4.4-1.6 7.5-4.9 7.5-9.500V6L12 3ZM9 12l2.2 2.200L15.5 10',
  devices: 'M3 5h13v10H3zM7 19h5M9.5 15v4M17.5 9H21v10h-5v-4',
  share: 'M12 15V4M8 7.5 12 3.500l4 4M5 12v8h14v-8',
  credits:
    'M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM9.5 9.500a2.5 2 0 0 1 2.5-1.800c1.5 0 2.5.8 2.5 2 0 2.8-5 1.8-5 4.6 0 1.2 1 2 2.5 2a2.5 2 0 0 0 2.5-1.800M12 6v1.700M12 16.300V18',
  activity: 'M3 12h4l3-7.5 4.5 15 3-7.500H21',
  settings:
    'M12 15.200a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.400ZM19 12l2-1.5-2-3.5-2.4 1a7 7 0 0 0-2-1.200L14.2 4.200h-4.400l-.4 2.600a7 7 0 0 0-2 1.200L5 7l-2 3.500L5 12l-2 1.500L5 17l2.4-1a7 7 0 0 0 2 1.200l.4 2.600h4.400l.4-2.600a7 7 0 0 0 2-1.200l2.4 1 2-3.500L19 12Z',
  check: 'm5 12.5 4.5 4.500L19 7.5',
  cross: 'M6 6l12 12M18 6 6 18',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  refresh: 'M20 11a8 8 0 0 0-14.5-3.500L3.5 10M3.5 5v5h5M4 13a8 8 0 0 0 14.5 3.500l2-2.500M20.5 19v-5h-5',
  arrow: 'M5 12h14M13 6l6 6-6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  up: 'M12 19V5M6 11l6-6 6 6',
  upload: 'M12 16V5M7.5 9 12 4.500 16.500 9M4 15v4.500h16V15',
  key: 'M8 16.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9ZM12.500 12H21M18 12v3.500M15 12v2.500',
  globe:
    'M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM3.5 12h17M12 3.500c2.5 2.4 3.6 5.3 3.6 8.500s-1.1 6.1-3.6 8.500c-2.5-2.4-3.6-5.3-3.6-8.500s1.1-6.1 3.6-8.500Z',
  plug: 'M9 3v5M15 3v5M6.5 8h11v3.500a5.5 5.5 0 0 1-11 0V8ZM12 17v4',
  warning: 'M12 4 2.8 19.500h18.400L12 4ZM12 10v4.500M12 17v.4',
  power: 'M12 3v8.500M6.8 6.500a8 8 0 1 0 10.4 0',
} as const
export type IconName = keyof typeof PATHS

export function Icon({ name, size = 20 }: { name: IconName; size?: number }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  )
}

/** The round shield with its lambda. */
export function Mark({ size = 28 }: { size?: number }): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" focusable="false">
      <circle cx="16" cy="16" r="15" class="mark-field" />
      <circle cx="16" cy="16" r="12" class="mark-rim" />
      <path d="M16 7 9.5 24h3.400L16 15.2 19.1 24h3.400z" class="mark-letter" />
    </svg>
  )
}
