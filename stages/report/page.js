(() => {
  const root = document.documentElement, tip = document.getElementById('tip');

  // Titles in the SVG serve where there is no script; here they become tips, so that both do not show.
  for (const title of document.querySelectorAll('svg title')) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }

  const show = (text, event) => {
    tip.textContent = text;
    tip.className = 'shown';
    const { width, height } = tip.getBoundingClientRect();
    const x = event.clientX + 14 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 14;
    const y = event.clientY + 16 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16;
    tip.style.left = Math.max(4, x) + 'px';
    tip.style.top = Math.max(4, y) + 'px';
  };
  const hide = () => { tip.className = ''; };

  // A heatmap's values are decoded when it is first pointed at, not when the page opens.
  const maps = new WeakMap();
  const decode = svg => {
    const bytes = Uint8Array.from(atob(svg.dataset.values), c => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const rows = svg.dataset.rows.split('\n');
    const columns = 'columns' in svg.dataset ? svg.dataset.columns.split('\n') : rows;
    const [lo, hi] = svg.dataset.domain.split(' ').map(Number);
    const place = svg.dataset.place.split(' ').map(Number);
    const value = (row, column) => {
      // Of a symmetric matrix row i holds the values from the diagonal on.
      if ('symmetric' in svg.dataset && row > column) [row, column] = [column, row];
      const before = 'symmetric' in svg.dataset ? row * (row + 1) / 2 : 0;
      const step = view.getInt16(2 * (row * columns.length - before + column), true);
      return step === -32768 ? NaN : lo + (step + 32767) / 65534 * (hi - lo);
    };
    return { rows, columns, place, value };
  };
  const cell = (svg, event) => {
    if (!maps.has(svg)) maps.set(svg, decode(svg));
    const { rows, columns, place, value } = maps.get(svg);
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const column = Math.floor((at.x - place[0]) / place[2] * columns.length);
    const row = Math.floor((at.y - place[1]) / place[3] * rows.length);
    if (column < 0 || row < 0 || column >= columns.length || row >= rows.length) return null;
    const v = value(row, column);
    return `${Number.isNaN(v) ? 'no value' : v.toFixed(4).replace('-', '−')}\n${rows[row]}\n${columns[column]}`;
  };

  const point = event => {
    const svg = event.target.closest && event.target.closest('svg[data-values]');
    const text = svg ? cell(svg, event) : event.target.dataset && event.target.dataset.tip;
    text ? show(text, event) : hide();
  };
  addEventListener('pointermove', point);
  addEventListener('pointerdown', point);
  addEventListener('scroll', hide, { passive: true });

  document.addEventListener('click', event => {
    if (!event.target.classList.contains('copy')) return;
    const code = event.target.previousElementSibling;
    const say = text => { event.target.textContent = text; setTimeout(() => { event.target.textContent = 'Copy'; }, 1200); };
    const select = () => { getSelection().selectAllChildren(code); say('Selected'); };
    // A page opened from a file may not be allowed the clipboard.
    navigator.clipboard ? navigator.clipboard.writeText(code.textContent).then(() => say('Copied'), select) : select();
  });

  const button = document.getElementById('theme');
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const name = () => { button.textContent = dark() ? 'Light' : 'Dark'; };
  button.hidden = false;
  button.addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    try { localStorage.setItem('theme', root.dataset.theme); } catch { /* not kept, then */ }
    name();
  });
  try { if (localStorage.getItem('theme')) root.dataset.theme = localStorage.getItem('theme'); } catch { /* default */ }
  const asked = new URLSearchParams(location.search).get('theme');
  if (asked === 'dark' || asked === 'light') root.dataset.theme = asked;
  name();

  // A link to a figure that is folded away opens it.
  const unfold = () => { const at = location.hash && document.getElementById(location.hash.slice(1)); if (at && at.tagName === 'DETAILS') at.open = true; };
  addEventListener('hashchange', unfold);
  unfold();
})();
