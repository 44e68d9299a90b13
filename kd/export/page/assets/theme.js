// The button that changes the theme: that of the system until it is pressed. Some browsers keep no storage.

const root = document.documentElement;
const toggle = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => { try { return localStorage.getItem("kd-theme"); } catch { return null; } };
const remember = (name) => { try { localStorage.setItem("kd-theme", name); } catch { /* not kept */ } };
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
const label = () => { toggle.textContent = isDark() ? "Light theme" : "Dark theme"; };

if (["dark", "light"].includes(remembered())) root.dataset.theme = remembered();
toggle.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remember(root.dataset.theme);
  label();
});
system.addEventListener("change", label);
label();
toggle.hidden = false;
