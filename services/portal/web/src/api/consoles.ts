// `monitor_channels/`: a way to an instance's screen, good once, for 15 seconds, for this session.

import { call, socketUrl } from './http';

export interface Channel {
  id: string;
  protocol: string;
  username: string;
  password: string;
}

/** 409 when the instance is not running. */
export async function openChannel(guest: string, signal?: AbortSignal): Promise<Channel> {
  return (await call<Channel>('POST', 'monitor_channels/', { body: { guest }, ...(signal && { signal }) }))
    .data;
}

export function channelUrl(channel: Channel): string {
  return socketUrl(`monitor_channels/${channel.id}`);
}
