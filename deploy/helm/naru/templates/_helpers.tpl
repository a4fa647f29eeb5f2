{{- define "naru.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "naru.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "naru.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "naru.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "naru.selector" -}}
app.kubernetes.io/name: {{ include "naru.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "naru.labels" -}}
{{ include "naru.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "naru.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "naru.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "naru.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* The pod of both kinds of workload. */}}
{{- define "naru.pod" -}}
metadata:
  labels:
    {{- include "naru.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What is read at the start only: when it changes, the pods have to be replaced.
    naru/config: {{ .Values.config | sha256sum | trunc 16 | quote }}
    naru/secrets: {{ printf "%s%s" (toJson .Values.secrets) (toJson .Values.cluster) | sha256sum | trunc 16 | quote }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "naru.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Longer than a drain takes (node.drain_timeout, 20 s).
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: naru
      image: {{ include "naru.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: ["serve", "--config", "/etc/naru/naru.toml"]
      env:
        - name: NARU_NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        # A folder below the volume: file systems bring entries of their own, and belong to others.
        - name: NARU_DATA_DIR
          value: /var/lib/naru/data
        - name: NARU_HTTP_LISTEN
          value: 0.0.0.0:8080
        - name: NARU_STOMP_LISTEN
          value: 0.0.0.0:61613
        - name: NARU_BRIDGE_LISTEN
          value: 0.0.0.0:1490
      {{- $cluster := eq .Values.mode "cluster" }}
      {{- $secret := .Values.secrets.environment }}
      {{- if or $cluster $secret.existing $secret.values }}
      envFrom:
        {{- if $secret.existing }}
        - secretRef:
            name: {{ $secret.existing }}
        {{- end }}
        {{- if or $cluster $secret.values }}
        - secretRef:
            name: {{ include "naru.fullname" . }}-environment
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
        - name: stomp
          containerPort: 61613
        - name: bridge
          containerPort: 1490
      # A start reads back what was left over, which takes time when it is much; nobody is impatient before.
      startupProbe:
        httpGet:
          path: /health/startup
          port: http
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 120
      # Fails only when the process cannot recover by itself.
      livenessProbe:
        httpGet:
          path: /health/live
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Turns false at once when the node drains or its store takes nothing.
      readinessProbe:
        httpGet:
          path: /health/ready
          port: http
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      {{- if and $cluster (gt (int .Values.preStopSeconds) 0) }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSeconds }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        privileged: false
        capabilities:
          drop: ["ALL"]
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/naru
          readOnly: true
        - name: data
          mountPath: /var/lib/naru
        # SQLite sorts there what does not fit into memory.
        - name: tmp
          mountPath: /tmp
        {{- if or .Values.secrets.files.existing .Values.secrets.files.values }}
        - name: secrets
          mountPath: /etc/naru-secrets
          readOnly: true
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "naru.fullname" . }}
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
    {{- if or $cluster (not .Values.persistence.enabled) }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if or .Values.secrets.files.existing .Values.secrets.files.values }}
    - name: secrets
      secret:
        secretName: {{ default (printf "%s-files" (include "naru.fullname" .)) .Values.secrets.files.existing }}
        defaultMode: 0440
    {{- end }}
  {{- if and $cluster (not .Values.affinity) }}
  # Machines die whole: not all nodes on one.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "naru.selector" . | nindent 10 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
