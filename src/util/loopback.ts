/** Whether a URL's host is this machine itself: `localhost`, 127.0.0.0/8 or `[::1]`, as `URL` normalizes them. */
export const isLoopback = (url: URL): boolean =>
  url.hostname === "localhost" || url.hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(url.hostname)
