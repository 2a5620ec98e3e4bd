// Browsers start no worker for a page that is opened from a folder. There, the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html>"
      this.inside = new Promise((ready, failed) => {
        this.frame.onload = () => {
          const inside = this.frame.contentWindow
          inside.postMessage = data => setTimeout(() => this.onmessage?.({ data }))
          const script = inside.document.createElement("script")
          script.src = url
          script.onload = () => ready(inside)
          script.onerror = failed
          inside.document.body.append(script)
        }
      })
      this.inside.catch(error => this.onerror?.(error))
      document.body.append(this.frame)
    }
    postMessage(data) {
      this.inside.then(inside => inside.onmessage({ data: structuredClone(data) }), () => {})
    }
    terminate() {
      this.frame.remove()
    }
  }
}
